"""Deletes blobs nobody needs, beside everything else.

The protocol says after every commit which blobs are needed. Where rounds are short that is more often than a
disk needs to be tidied, so collections keep a distance, and go by the newest of these sets. A blob that
becomes needed after its set was given is pinned from its first step on (`BlobStore.pin`), and stays pinned
here until no collection goes by an older set.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from p2pfl.store.blobs import BlobStore

APART_SECONDS = 0.25
"""Between two collections: what is written in that time is all that piles up."""


class Collector:
    """Collects for one node. It belongs to the event loop; the disk is looked at in threads."""

    def __init__(
        self,
        store: BlobStore,
        best: Callable[[], Awaitable[str | None]],
        on_end: Callable[[asyncio.Future[None]], None],
    ) -> None:
        """Collect nothing yet.

        *best* returns one more blob to keep, and is asked before each collection. *on_end* is given the task
        when it is done, for its errors.
        """
        self._store = store
        self._best = best
        self._on_end = on_end
        self._keep: frozenset[str] | None = None
        """The last set of needed blobs, until a collection goes by it."""
        self._unpinned_before: list[str] = []
        """Pins to be taken away, given up before that set was given: it names what of these is needed."""
        self._unpinned_since: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._may_begin_at = 0.0
        self._is_closing = asyncio.Event()

    def collect(self, keep: frozenset[str]) -> None:
        """Delete, soon, whatever is not in *keep* and not pinned."""
        self._keep = keep
        self._unpinned_before += self._unpinned_since
        self._unpinned_since = []
        if self._task is None:
            self._begin()

    def unpin(self, digest: str) -> None:
        """Take a pin of *digest* away as soon as it is of no use."""
        if self._task is None:
            self._store.unpin(digest)
        else:
            self._unpinned_since.append(digest)

    async def close(self) -> None:
        """Finish what was asked for, at once."""
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
            self._begin()  # the set came when the task had just looked for one
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
        # A set that is given while `best` waits for the disk does not count yet: the commit behind it may not
        # be on disk, and a crash would take it while the update it made needless is deleted already.
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
