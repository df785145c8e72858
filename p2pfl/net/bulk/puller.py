"""Pulls a blob from the nodes that may have it, until it is in the store and verified.

A transfer that breaks is continued where it stopped, from any holder, so a partial blob may contain bytes of
several holders. If its digest is wrong then, the corrupt holder is unknown: the blob is pulled anew without
mixing holders. A holder that alone sent wrong bytes is not asked again for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Literal
from weakref import WeakValueDictionary

from p2pfl.errors import BlobError, NetworkError, P2pflError, PeerError
from p2pfl.net.bulk.connector import HolderUnreachableError
from p2pfl.net.bulk.holders import CorruptHolders, Holder
from p2pfl.net.bulk.request import PeerProgress, PullRequest, throttled
from p2pfl.net.bulk.transfer import HolderBusyError, Transfers
from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.store.partial import PartialBlob
from p2pfl.text import one_line

logger = logging.getLogger(__name__)

MAX_PASSES = 8
"""Passes over the holders while some are busy or transfers break; the delays add up to 20 s."""

FIRST_RETRY_SECONDS = 0.2
"""Delay between the first two passes; doubles up to `MAX_RETRY_SECONDS`."""

MAX_RETRY_SECONDS = 5.0

MAX_NAMED_FAILURES = 3
"""Holders that the error message names when none sent the blob."""

MAX_FAILURE_CHARACTERS = 300
"""Limit of the text about one of them: two addresses, and why neither side could dial the other."""

_Outcome = Literal["done", "retry", "failed"]
"""The blob is in the store; the holder may be asked again; it may not."""

_EARLIER = ""
"""In place of a node id: the unknown holders of an earlier pull."""


class BlobPuller:
    """Pulls blobs into one store, a limited number at a time."""

    def __init__(
        self,
        store: BlobStore,
        transfers: Transfers,
        holders: Callable[[Sequence[str]], Sequence[Holder]],
        max_pulls: int,
        threads: Executor,
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._holders = holders
        self._slots = asyncio.Semaphore(max_pulls)
        self._threads = threads
        self._corrupt = CorruptHolders()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pull(self, request: PullRequest) -> None:
        """Bring the requested blob into the store; return at once if it is there.

        It asks the sources of *request*, then every other linked node. Simultaneous pulls of one blob share
        one transfer. A cancelled or failed pull is continued by the next one where it stopped.

        Raises:
            NetworkError: no node that could be reached sent the blob; one may do so later.
            BlobError: every node that could be reached sent something else.
            DataDirectoryError: the local disk failed.
        """
        lock = self._locks.setdefault(request.digest, asyncio.Lock())
        async with lock, self._slots:
            if self._store.has(request.digest):
                return
            pull = _Pull(request, self._store, self._transfers, self._corrupt, self._threads)
            await pull.run(lambda: self._holders(request.sources), throttled(request.on_progress))


class _Pull:
    """The pull of one blob."""

    def __init__(
        self,
        request: PullRequest,
        store: BlobStore,
        transfers: Transfers,
        corrupt: CorruptHolders,
        threads: Executor,
    ) -> None:
        self._request = request
        self._digest = request.digest
        self._length = request.length
        self._store = store
        self._transfers = transfers
        self._corrupt = corrupt
        self._threads = threads
        self._sent_by: set[str] = set()
        """The nodes whose bytes are in the partial blob."""
        self._may_mix = True
        self._failures: dict[str, P2pflError] = {}
        """The error of each holder, by its name."""

    async def run(self, holders: Callable[[], Sequence[Holder]], on_progress: PeerProgress) -> None:
        """Ask the *holders*, which are looked up for each pass, as long as a retry may succeed.

        Raises:
            NetworkError, BlobError: see `BlobPuller.pull`.
        """
        delay = FIRST_RETRY_SECONDS
        for _ in range(MAX_PASSES):
            outcomes: set[_Outcome] = set()
            for holder in holders():
                outcomes.add(await self._ask(holder, on_progress))
                if "done" in outcomes:
                    return
            if "retry" not in outcomes:
                break
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)
        raise self._failure()

    async def _ask(self, holder: Holder, on_progress: PeerProgress) -> _Outcome:
        """Pull the missing bytes from one holder, unless it sent wrong bytes before."""
        node = holder.node
        if (wrong := self._corrupt.error(node, self._digest, self._now())) is not None:
            self._failures[holder.name] = wrong
            return "failed"
        blob = await self._open(node)
        with blob:
            before = blob.offset
            try:
                await self._transfers.run(self._digest, holder, blob, partial(on_progress, node))
            except HolderBusyError as error:
                self._failures[holder.name] = error
                return "retry"
            except NetworkError as error:
                self._failures[holder.name] = error
                logger.debug("blob %s from %s: %s", self._digest, holder.name, error)
            except PeerError as error:
                self._found_corrupt(holder, error)
                return "failed"
            if blob.offset > before:
                self._sent_by.add(node)
            if blob.offset == self._length:
                return await self._finish(holder, blob)
        return "retry" if blob.offset > before else "failed"

    async def _open(self, node: str) -> PartialBlob:
        """Open the partial blob; drop its bytes if those of *node* may not be mixed with them."""
        if self._length <= QUICK_BYTES:
            blob = self._target()
        else:
            blob = await asyncio.get_running_loop().run_in_executor(self._threads, self._target)
        if blob.offset and not self._may_mix and self._sent_by != {node}:
            blob.discard()
            return await self._open(node)
        if not blob.offset:
            self._sent_by = set()
        elif not self._sent_by:
            self._sent_by = {_EARLIER}
        return blob

    def _target(self) -> PartialBlob:
        """Open what is here of the blob; long blobs are opened in a thread."""
        one = self._request
        return self._store.partial(
            one.digest, one.length, durable=one.durable, soon=one.soon, watch=one.watch
        )

    def _found_corrupt(self, holder: Holder, error: PeerError) -> None:
        """Record that *holder*, and no other node, sent wrong bytes."""
        self._failures[holder.name] = error
        self._corrupt.add(holder.node, holder.name, self._digest, error, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _finish(self, holder: Holder, blob: PartialBlob) -> _Outcome:
        """Verify the blob, completed with bytes of *holder*, and add it to the store."""
        try:
            if self._length <= QUICK_BYTES and not blob.is_durable:
                blob.finish()
            else:
                await asyncio.get_running_loop().run_in_executor(self._threads, blob.finish)
        except BlobError as error:
            if self._sent_by <= {holder.node}:
                self._found_corrupt(holder, error)
                return "failed"
            self._failures[holder.name] = error
            self._may_mix = False
            return "retry"
        return "done"

    def _failure(self) -> P2pflError:
        """Return the error that explains why no holder sent the blob."""
        what = f"blob {self._digest[:12]} could not be pulled"
        if not self._failures:
            return NetworkError(f"{what}: no node that may have it is reachable")
        failures = sorted(self._failures.items(), key=_rank)
        if isinstance(failures[0][1], HolderUnreachableError):  # omit the nodes that never had the blob
            failures = [one for one in failures if isinstance(one[1], HolderUnreachableError)]
            what = "no way to the bytes"
        reasons = "; ".join(_text(name, error) for name, error in failures[:MAX_NAMED_FAILURES])
        only_wrong = all(isinstance(error, PeerError) for error in self._failures.values())
        return (BlobError if only_wrong else NetworkError)(f"{what}: {reasons}")


def _rank(failure: tuple[str, P2pflError]) -> int:
    """Return the sort key of a failure in the error message: first those that the user can act upon."""
    _, error = failure
    return 0 if isinstance(error, PeerError) else 1 if isinstance(error, HolderUnreachableError) else 2


def _text(name: str, error: P2pflError) -> str:
    """Return the text about a failure to pull a blob from *name*."""
    reason = one_line(str(error), MAX_FAILURE_CHARACTERS)
    match error:
        case HolderUnreachableError():
            return reason  # it names the holder
        case PeerError():
            return f"{name} gave wrong bytes: {reason}"
    return f"from {name}: {reason}"
