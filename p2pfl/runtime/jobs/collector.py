"""Deletes unneeded blobs in the background.

After each commit the protocol passes the set of needed blobs. If rounds are short, this is more often than
files have to be deleted. So collections have a minimum interval, and each uses the newest set. A blob that
becomes needed after its set was passed is pinned from the start (`BlobStore.pin`), and the pin is kept until
no collection uses an older set.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from p2pfl.store.blobs import BlobStore

APART_SECONDS = 0.25
"""Minimum interval between two collections. Only blobs written within it accumulate."""


class Collector:
    """Deletes unneeded blobs of one node. Call it in the event loop; it accesses the disk in threads."""

    def __init__(
        self,
        store: BlobStore,
        best: Callable[[], Awaitable[str | None]],
        on_end: Callable[[asyncio.Future[None]], None],
    ) -> None:
        """Delete nothing yet.

        *best* returns one more blob to keep; it is called before each collection. *on_end* gets the finished
        task, to handle its errors.
        """
        self._store = store
        self._best = best
        self._on_end = on_end
        self._keep: frozenset[str] | None = None
        """The newest set of needed blobs; None after a collection used it."""
        self._unpinned_before: list[str] = []
        """Pins to remove, released before that set was passed: the set contains those that are needed."""
        self._unpinned_since: list[str] = []
        """Pins to remove, released after that set was passed."""
        self._task: asyncio.Task[None] | None = None
        self._may_begin_at = 0.0
        self._is_closing = asyncio.Event()

    def collect(self, keep: frozenset[str]) -> None:
        """Delete all blobs that are neither in *keep* nor pinned, soon."""
        self._keep = keep
        self._unpinned_before += self._unpinned_since
        self._unpinned_since = []
        if self._task is None:
            self._begin()

    def unpin(self, digest: str) -> None:
        """Remove a pin of *digest* when no collection depends on it any more."""
        if self._task is None:
            self._store.unpin(digest)
        else:
            self._unpinned_since.append(digest)

    async def close(self) -> None:
        """Finish the requested collections without waiting for the interval."""
        self._is_closing.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._on_end(task)
        has_failed = task.cancelled() or task.exception() is not None
        if self._keep is not None and not has_failed:
            self._begin()  # the set was passed after the task had checked for one
            return
        self._unpin(self._unpinned_before + self._unpinned_since)
        self._unpinned_before, self._unpinned_since = [], []

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._keep is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._may_begin_at):
                    await self._is_closing.wait()
            await self._collect()
            self._may_begin_at = loop.time() + APART_SECONDS

    async def _collect(self) -> None:
        # A set that is passed while `best` waits for the disk is not used yet: the commit that caused it may
        # not be on disk. After a crash the commit would be lost, and the update that it replaced deleted.
        assert self._keep is not None
        keep, self._keep = self._keep, None
        unpinned, self._unpinned_before = self._unpinned_before, []
        if (best := await self._best()) is not None:
            keep |= {best}
        self._unpin(unpinned)
        files = await asyncio.to_thread(self._store.collect, keep)
        await asyncio.to_thread(self._store.delete, files)

    def _unpin(self, digests: list[str]) -> None:
        for digest in digests:
            self._store.unpin(digest)
