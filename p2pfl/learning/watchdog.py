"""How a node tells that its worker is stuck: a process that says nothing, a job that gets nowhere.

Both are counted by looks, not by a clock: a device that slept with its lid closed, or a node that was stopped
for a while, must not blame its worker. Nothing here knows a process or a pipe; `process` looks and kills.
"""

from __future__ import annotations

from collections.abc import Collection

SILENT_TICKS = 12
"""A worker is killed after this many looks in a row without a frame."""

UNKNOWN_SECONDS = 3600.0
"""For a job of which nobody knows how long it takes, the first of its kind: a download on a slow line."""


class Watchdog:
    """Tells a silent process from a live one, look by look."""

    def __init__(self) -> None:
        self.heard = True
        """Whether a frame came since the last look."""
        self._silent = 0

    def is_over(self) -> bool:
        """Look, and tell whether there was nothing to be heard for `SILENT_TICKS` looks in a row."""
        self._silent = 0 if self.heard else self._silent + 1
        self.heard = False
        return self._silent >= SILENT_TICKS


class Stall:
    """Tells a hanging job from a working one, among jobs that are done one after another."""

    def __init__(self, factor: float, seconds: float) -> None:
        """Let a job go without progress for *factor* times what it is to take in all, and *seconds*."""
        self._factor = factor
        self._seconds = seconds
        self.still = 0.0
        """Seconds since the last progress of any of the jobs."""

    def moved(self) -> None:
        """Note that one of the jobs made progress or ended."""
        self.still = 0.0

    def hangs(self, expected: Collection[float | None], tick: float) -> bool:
        """Look, *tick* seconds after the last look, and tell whether one of the jobs hangs.

        *expected* is what each job under way or waiting is to take in all, None where nobody knows: such a
        one has `UNKNOWN_SECONDS`.
        """
        self.still = self.still + tick if expected else 0.0
        limits = [
            UNKNOWN_SECONDS if seconds is None else self._factor * seconds + self._seconds
            for seconds in expected
        ]
        return bool(limits) and self.still > max(limits)
