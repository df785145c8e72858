"""The request to pull a blob, and throttled reports of a transfer's progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pfl.store.partial import Watch

Progress = Callable[[int, int], None]
"""Called with the number of bytes transferred, and of all bytes."""

PeerProgress = Callable[[str, int, int], None]
"""The same, with the peer as the first argument."""

PROGRESS_SECONDS = 0.25
"""Between two reports of one transfer: a screen shows no more, and each report goes to every observer."""


@dataclass(frozen=True)
class PullRequest:
    """A blob to bring into the store."""

    digest: str
    length: int
    """Bytes of the whole blob."""
    sources: Sequence[str] = ()
    """Node ids to ask first, the most likely first; then every other linked node is asked."""
    on_progress: PeerProgress | None = None
    """Called a few times a second with the node id of the holder."""
    durable: bool = True
    """Whether the blob is on disk when the pull ends; one that was in the store before is not flushed."""
    soon: bool = False
    """Whether flushing to disk starts with the pull, for a blob that becomes durable afterwards."""
    watch: Watch | None = None
    """Called with all bytes that are received."""


def throttled(report: PeerProgress | None) -> PeerProgress:
    """Return a function that passes on the reports of one transfer, not too often but always the last.

    Both sides of a transfer use it. Without *report* it passes nothing on.
    """
    reported_at = float("-inf")

    def pass_on(peer: str, done: int, total: int) -> None:
        nonlocal reported_at
        now = asyncio.get_running_loop().time()
        if report is not None and (done == total or now - reported_at >= PROGRESS_SECONDS):
            reported_at = now
            report(peer, done, total)

    return pass_on
