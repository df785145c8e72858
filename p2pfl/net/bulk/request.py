"""How far a transfer is, as those are told who show it to people: seldom, but always its end.

Both sides of a transfer report alike, the one that pulls and the one that serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are through."""

PeerProgress = Callable[[str, int, int], None]
"""The same, and first with whom."""

PROGRESS_SECONDS = 0.25
"""Between two reports of one transfer: a screen shows no more, and each goes to every observer."""


def throttled(report: PeerProgress | None) -> PeerProgress:
    """Return a function that passes reports of one transfer on, not too often but always the last.

    Without *report* it passes nothing on.
    """
    told_at = float("-inf")

    def passed_on(peer: str, done: int, total: int) -> None:
        nonlocal told_at
        now = asyncio.get_running_loop().time()
        if report is not None and (done == total or now - told_at >= PROGRESS_SECONDS):
            told_at = now
            report(peer, done, total)

    return passed_on
