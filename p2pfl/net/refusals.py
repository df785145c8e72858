"""Keeps what people are told readable: who tries every five seconds is complained about once a minute."""

from __future__ import annotations

import re
from collections.abc import Callable

REPEAT_SECONDS = 60.0
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
        self._told = {key: at for key, at in self._told.items() if now - at < REPEAT_SECONDS}
        if kind in self._told:
            return
        if len(self._told) < MAX_REMEMBERED:
            self._told[kind] = now
        self._tell(address, reason)
