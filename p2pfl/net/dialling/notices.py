"""Rate-limited notices to the user about refused connections."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

REFUSAL_REPEAT_SECONDS = 60.0
"""Between two equal notices about one address: a refused peer may dial again every five seconds."""

MAX_REMEMBERED = 1024
"""Refusal notices remembered; strangers cannot grow this memory."""


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
        kind = (address, without_numbers(reason))
        self._sent = {key: at for key, at in self._sent.items() if now - at < REFUSAL_REPEAT_SECONDS}
        if kind in self._sent:
            return
        if len(self._sent) < MAX_REMEMBERED:
            self._sent[kind] = math.inf if once else now
        self._notify(address, reason)


DOUBT_SECONDS = 0.25
"""After a claim that may be late: a claim that is signed this much later contains every vote cast before."""


class CopyDoubts:
    """Tells a journal that is a copy from a claim that was only late: the first one is refused each time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        """By node, when its claim first was behind."""

    def is_confirmed(self, node: str) -> bool:
        """Take that a claim of *node* is behind; return whether an earlier one was too."""
        now = self._clock()
        if node not in self._since and len(self._since) >= MAX_REMEMBERED:
            return False
        return now - self._since.setdefault(node, now) >= DOUBT_SECONDS

    def settle(self, node: str) -> None:
        """Take that a claim of *node* was right."""
        self._since.pop(node, None)


def without_numbers(reason: str) -> str:
    """Return *reason* in a form that can be compared: it may contain the time, which never repeats."""
    return re.sub("[0-9]+", "#", reason)
