"""Keeps what people are told readable: who tries every five seconds is complained about once a minute."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

REFUSAL_REPEAT_SECONDS = 60.0
"""Before the same sentence about the same address is told again."""

MAX_REMEMBERED = 1024
"""Sentences remembered; strangers cannot grow this."""


class Refusals:
    """Passes refusals on, repeats seldom."""

    def __init__(self, tell: Callable[[str, str], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def refused(self, address: str, reason: str) -> None:
        """Tell that a connection with *address* was refused, unless that was told within the last minute."""
        now = self._clock()
        kind = (address, re.sub("[0-9]+", "#", reason))  # sentences show clocks, which never repeat
        self._told = {key: at for key, at in self._told.items() if now - at < REFUSAL_REPEAT_SECONDS}
        if kind in self._told:
            return
        if len(self._told) < MAX_REMEMBERED:
            self._told[kind] = now
        self._tell(address, reason)


GRACE_SECONDS = 3.0
"""Before the first word: devices that are switched on together are not there in the same second."""

FAILURE_REPEAT_SECONDS = 10.0
"""At least between two words about one address: reasons may change to and fro."""

Tell = Callable[[str, str, bool], None]
"""Takes an address as it was written, why it leads nowhere (empty: it was reached), and whether one side
refused the other, which is told anyway."""


@dataclass
class _Failing:
    since: float
    reason: str
    told: str = ""
    """The reason that was told last."""
    told_at: float = 0.0


class UnreachableAddresses:
    """The listed addresses that lead nowhere now."""

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._failing: dict[str, _Failing] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """Why each of them could not be reached at the last try."""
        return {text: failing.reason for text, failing in self._failing.items()}

    def failed(self, text: str, reason: str, *, is_refused: bool = False) -> None:
        """Take note that the address *text* leads nowhere, and tell it when it is time."""
        now = self._clock()
        failing = self._failing.setdefault(text, _Failing(now, reason))
        failing.reason = reason
        kind = re.sub("[0-9]+", "#", reason)  # sentences show clocks, which never repeat
        is_due = (
            now - failing.told_at >= FAILURE_REPEAT_SECONDS
            if failing.told
            else now - failing.since >= GRACE_SECONDS
        )
        if kind != failing.told and is_due:
            failing.told, failing.told_at = kind, now
            self._tell(text, reason, is_refused)

    def reached(self, text: str) -> None:
        """Take note that somebody was reached at *text*; tell it where the contrary was told."""
        failing = self._failing.pop(text, None)
        if failing is not None and failing.told:
            self._tell(text, "", False)
