"""Progress of reading data, in lines on standard error: the node logs what its worker writes there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

LINE_SECONDS = 3.0
"""Minimum interval between two lines; what takes less time in all has no line."""


class ProgressLines:
    """Writes lines such as "reading pictures: 12,000 of 20,000"."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._started = self._written = clock()

    def update(self, done: int) -> None:
        """Note that *done* of the total are done; write a line if it is time, and one at the end."""
        now = self._clock()
        has_lines = self._written > self._started
        if done < self._total and now - self._written >= LINE_SECONDS:
            self._written = now
            self._write(f"{self._what}: {done:,} of {self._total:,}")
        elif done >= self._total and has_lines:
            self._write(f"{self._what}: all {self._total:,} in {now - self._started:.0f} s")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
