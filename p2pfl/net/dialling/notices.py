"""Rate-limited notices to the user about refused connections and unreachable addresses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

REFUSAL_REPEAT_SECONDS = 60.0
"""Between two equal notices about one address: a refused peer may dial again every five seconds."""

MAX_REMEMBERED = 1024
"""Refusal notices remembered; strangers cannot grow this memory."""

GRACE_SECONDS = 3.0
"""Before the first notice about an address: devices switched on together are not ready in the same second."""

FAILURE_REPEAT_SECONDS = 10.0
"""At least between two notices about one address, whose reasons may alternate."""

NotifyUnreachable = Callable[[str, str, bool], None]
"""Takes an address as the user wrote it, why it cannot be reached (empty: it was reached), and whether one
side refused the other, which `RefusalNotices` reports too."""


class RefusalNotices:
    """Passes on notices about refused connections, without frequent repeats."""

    def __init__(self, notify: Callable[[str, str], None], clock: Callable[[], float]) -> None:
        self._notify = notify
        self._clock = clock
        self._sent: dict[tuple[str, str], float] = {}
        """When each was sent; infinity for those that are not repeated."""

    def report(self, address: str, reason: str, *, once: bool = False) -> None:
        """Pass on that a connection with *address* was refused, unless that was reported recently.

        With *once* it is never repeated.
        """
        now = self._clock()
        kind = (address, _without_numbers(reason))
        self._sent = {key: at for key, at in self._sent.items() if now - at < REFUSAL_REPEAT_SECONDS}
        if kind in self._sent:
            return
        if len(self._sent) < MAX_REMEMBERED:
            self._sent[kind] = math.inf if once else now
        self._notify(address, reason)


@dataclass
class _Failure:
    since: float
    reason: str
    sent: str = ""
    """The reason in the last notice; empty before the first."""
    sent_at: float = 0.0


class UnreachableAddresses:
    """The listed addresses that cannot be reached now."""

    def __init__(self, notify: NotifyUnreachable, clock: Callable[[], float]) -> None:
        self._notify = notify
        self._clock = clock
        self._failures: dict[str, _Failure] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """Why the last attempt failed, by address."""
        return {text: failure.reason for text, failure in self._failures.items()}

    def failed(self, text: str, reason: str, *, is_refused: bool = False) -> None:
        """Record that the address *text* could not be reached; send a notice if one is due."""
        now = self._clock()
        failure = self._failures.setdefault(text, _Failure(now, reason))
        failure.reason = reason
        kind = _without_numbers(reason)
        is_due = (
            now - failure.sent_at >= FAILURE_REPEAT_SECONDS
            if failure.sent
            else now - failure.since >= GRACE_SECONDS
        )
        if kind != failure.sent and is_due:
            failure.sent, failure.sent_at = kind, now
            self._notify(text, reason, is_refused)

    def reached(self, text: str) -> None:
        """Record that the address *text* was reached; send a notice if its failure was reported."""
        failure = self._failures.pop(text, None)
        if failure is not None and failure.sent:
            self._notify(text, "", False)


def _without_numbers(reason: str) -> str:
    """Return *reason* in a form that can be compared: it may contain the time, which never repeats."""
    return re.sub("[0-9]+", "#", reason)
