"""Virtual time: a heap of what happens next. Nothing waits, and nothing happens at the same time as another.

Two things due at one moment happen in the order they were put in, so a seed replays exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Clock:
    """The time of one world."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the world began."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Let *action* happen with *arguments* in *delay* seconds."""
        self.at(self.now + delay, action, *arguments)

    def at(self, moment: float, action: Callable[..., None], *arguments: object) -> None:
        """Let *action* happen with *arguments* at *moment*, which is not past."""
        self._count += 1
        heapq.heappush(self._heap, (moment, self._count, action, arguments))

    @property
    def next_at(self) -> float | None:
        """When the next thing happens; None when nothing will."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, action, arguments = heapq.heappop(self._heap)
        action(*arguments)
