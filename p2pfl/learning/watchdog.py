"""Detect a hanging worker: a process that sends nothing, or a job that makes no progress.

Both detectors count periodic checks, not clock time. So a device that was asleep, or a node process that was
stopped, does not count this time against its worker. These classes know no process and no pipe:
`p2pfl.learning.process` calls them and kills the worker.
"""

from __future__ import annotations

from collections.abc import Collection

SILENT_TICKS = 12
"""Consecutive checks without a frame from the worker after which it is killed."""

UNKNOWN_SECONDS = 3600.0
"""Limit for a job without a predicted duration, the first of its kind: it may download over a slow line."""


class Watchdog:
    """Detects a silent process."""

    def __init__(self) -> None:
        self.heard = True
        """Whether a frame arrived since the last check. The owner sets it for every frame."""
        self._silent = 0

    def is_silent(self) -> bool:
        """Check once; return whether no frame arrived during `SILENT_TICKS` consecutive checks."""
        self._silent = 0 if self.heard else self._silent + 1
        self.heard = False
        return self._silent >= SILENT_TICKS


class StallDetector:
    """Detects a hanging job among jobs that are executed one after another."""

    def __init__(self, factor: float, seconds: float) -> None:
        """Allow *factor* times a job's predicted duration plus *seconds* without progress."""
        self._factor = factor
        self._seconds = seconds
        self.stalled_seconds = 0.0
        """Seconds since the last progress of any job."""

    def note_progress(self) -> None:
        """Note that a job made progress or ended."""
        self.stalled_seconds = 0.0

    def is_stalled(self, expected: Collection[float | None], tick: float) -> bool:
        """Check once, *tick* seconds after the last check; return whether the job in execution hangs.

        *expected* is the predicted duration in seconds of each job that is in execution or waits. None is an
        unknown duration, with `UNKNOWN_SECONDS` as its limit. The largest limit counts.
        """
        self.stalled_seconds = self.stalled_seconds + tick if expected else 0.0
        limits = [
            UNKNOWN_SECONDS if seconds is None else self._factor * seconds + self._seconds
            for seconds in expected
        ]
        return bool(limits) and self.stalled_seconds > max(limits)
