"""Notices that the device slept: its wall clock went on while its monotonic clock stood still.

After a sleep every TCP connection looks alive and most are dead. Whoever waits for the silence deadline loses
seconds; whoever notices drops its links and dials again at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LOOK_SECONDS = 1.0
"""Between two looks at the clocks."""


class SleepWatch:
    """Compares the two clocks, which tests may replace."""

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

    def look(self) -> None:
        """Compare the clocks now. A wall clock set by hand or by NTP looks like a sleep, and does no harm."""
        offset = self._wall() - self._monotonic()
        jump = offset - self._offset
        self._offset = offset
        if abs(jump) > self._jump_seconds:
            self._on_jump(jump)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
