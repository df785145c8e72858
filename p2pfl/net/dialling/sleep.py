"""Detects that the device slept: its wall clock advanced while its monotonic clock stood still.

After a sleep every TCP connection looks alive, but most are dead. A node that waits for the silence deadline
loses seconds; a node that detects the sleep drops its links and dials again at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

CHECK_SECONDS = 1.0
"""Between two comparisons of the clocks."""


class SleepDetector:
    """Compares the wall clock with the monotonic clock; tests may replace both."""

    def __init__(
        self,
        jump_seconds: float,
        on_jump: Callable[[float], None],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jump_seconds = jump_seconds
        self._on_jump = on_jump
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def check(self) -> None:
        """Compare the clocks now. A wall clock set by hand or by NTP also counts as a sleep, without harm."""
        offset = self._wall() - self._monotonic()
        jump = offset - self._offset
        self._offset = offset
        if abs(jump) > self._jump_seconds:
            self._on_jump(jump)

    async def run(self) -> None:
        """Check at intervals, for ever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check()
