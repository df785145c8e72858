"""Pulling a blob from whoever has it, until it is here and verified.

A transfer that breaks is taken up where it stopped, from any holder. That mixes the bytes of several; when
the digest is wrong then, nobody can tell whose fault it was. So the blob is pulled anew with holders kept
apart, and one that sent wrong bytes all by itself is not asked again.
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
from p2pfl.net.bulk.holders import Blame, Holder
from p2pfl.net.bulk.request import PeerProgress, PullRequest, throttled
from p2pfl.net.bulk.transfer import HolderBusyError, Transfers
from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.store.partial import PartialBlob
from p2pfl.text import one_line

logger = logging.getLogger(__name__)

MAX_PASSES = 8
"""Times the holders are asked while some are busy or transfers break on the way: 20 s of rests in all."""

FIRST_REST_SECONDS = 0.2
"""Between the first two passes; then doubling."""

MOST_REST_SECONDS = 5.0
"""Between two passes."""

MAX_FAILURES_TOLD = 3
"""Holders named when nobody gave the blob."""

MAX_FAILURE_CHARACTERS = 300
"""Of what is told of one of them: two addresses, and why neither side can dial the other."""


_Outcome = Literal["here", "again", "no"]
"""The blob is here; the holder is worth another pass; it is not."""


_EARLIER = ""
"""In place of a node id: a pull of an earlier time, whose holders are not known any more."""


class BlobPuller:
    """Pulls blobs into one store, a bounded number at a time."""

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
        self._blame = Blame()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pull(self, request: PullRequest) -> None:
        """Bring the requested blob into the store; return at once if it is there.

        It asks the sources of *request*, then every other linked node. Simultaneous pulls of one blob share
        one transfer. A cancelled or failed pull is continued by the next one where it stopped.

        Raises:
            NetworkError: nobody who could be reached gave it.
            BlobError: everybody who could be reached gave something else.
            DataDirectoryError: this device's disk refused.
        """
        lock = self._locks.setdefault(request.digest, asyncio.Lock())
        async with lock, self._slots:
            if self._store.has(request.digest):
                return
            hunt = _Hunt(request, self._store, self._transfers, self._blame, self._threads)
            await hunt.run(lambda: self._holders(request.sources), throttled(request.on_progress))


class _Hunt:
    """One blob being pulled."""

    def __init__(
        self,
        request: PullRequest,
        store: BlobStore,
        transfers: Transfers,
        blame: Blame,
        threads: Executor,
    ) -> None:
        """Begin nothing yet."""
        self._digest, self._length = request.digest, request.length
        self._target = partial(
            store.partial,
            request.digest,
            request.length,
            durable=request.durable,
            soon=request.soon,
            watch=request.watch,
        )
        self._transfers = transfers
        self._blame = blame
        self._threads = threads
        self._sent_by: set[str] = set()
        """Whose bytes are in the partial blob."""
        self._may_mix = True
        self._failures: dict[str, P2pflError] = {}
        """What came of asking, by what people call the holder."""

    async def run(self, holders: Callable[[], Sequence[Holder]], on_progress: PeerProgress) -> None:
        """Ask the *holders*, as they are at the time, as long as asking again makes sense.

        Raises:
            NetworkError, BlobError: see `BlobPuller.pull`.
        """
        rest = FIRST_REST_SECONDS
        for _ in range(MAX_PASSES):
            outcomes: set[_Outcome] = set()
            for holder in holders():
                outcomes.add(await self._ask(holder, on_progress))
                if "here" in outcomes:
                    return
            if "again" not in outcomes:
                break
            await asyncio.sleep(rest)
            rest = min(2 * rest, MOST_REST_SECONDS)
        raise self._failure()

    async def _ask(self, holder: Holder, on_progress: PeerProgress) -> _Outcome:
        """Ask one holder for what is missing, unless it gave wrong bytes before."""
        node = holder.node
        if (wrong := self._blame.error(node, self._digest, self._now())) is not None:
            self._failures[holder.name] = wrong
            return "no"
        blob = await self._open(node)
        with blob:
            before = blob.offset
            try:
                await self._transfers.run(self._digest, holder, blob, partial(on_progress, node))
            except HolderBusyError as error:
                self._failures[holder.name] = error
                return "again"
            except NetworkError as error:
                self._failures[holder.name] = error
                logger.debug("blob %s from %s: %s", self._digest, holder.name, error)
            except PeerError as error:
                self._is_wrong(holder, error)
                return "no"
            if blob.offset > before:
                self._sent_by.add(node)
            if blob.offset == self._length:
                return await self._finish(holder, blob)
        return "again" if blob.offset > before else "no"

    async def _open(self, node: str) -> PartialBlob:
        """Open what is here of the blob; what *node* may not add to is dropped."""
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

    def _is_wrong(self, holder: Holder, error: PeerError) -> None:
        """Take note that *holder*, and nobody else, gave wrong bytes."""
        self._failures[holder.name] = error
        self._blame.blame(holder.node, holder.name, self._digest, error, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _finish(self, holder: Holder, blob: PartialBlob) -> _Outcome:
        """Verify and keep the blob, which is complete with the bytes of *holder*."""
        try:
            if self._length <= QUICK_BYTES and not blob.is_durable:
                blob.finish()
            else:
                await asyncio.get_running_loop().run_in_executor(self._threads, blob.finish)
        except BlobError as error:
            if self._sent_by <= {holder.node}:
                self._is_wrong(holder, error)
                return "no"
            self._failures[holder.name] = error
            self._may_mix = False
            return "again"
        return "here"

    def _failure(self) -> P2pflError:
        """Return why the blob is not here."""
        what = f"blob {self._digest[:12]} could not be had"
        if not self._failures:
            return NetworkError(f"{what}: no node that may have it is reachable")
        told = sorted(self._failures.items(), key=_rank)
        if isinstance(
            told[0][1], HolderUnreachableError
        ):  # not told, then: who else was asked and never had it
            told = [one for one in told if isinstance(one[1], HolderUnreachableError)]
            what = "no way to the bytes"
        reasons = "; ".join(_told(name, error) for name, error in told[:MAX_FAILURES_TOLD])
        only_wrong = all(isinstance(error, PeerError) for error in self._failures.values())
        return (BlobError if only_wrong else NetworkError)(f"{what}: {reasons}")


def _rank(failure: tuple[str, P2pflError]) -> int:
    """Return where a failure comes among those that people are told: what they can act upon first."""
    return (
        0 if isinstance(failure[1], PeerError) else 1 if isinstance(failure[1], HolderUnreachableError) else 2
    )


def _told(name: str, error: P2pflError) -> str:
    """Return what people are told of a failure to get a blob from *name*."""
    reason = one_line(str(error), MAX_FAILURE_CHARACTERS)
    match error:
        case HolderUnreachableError():
            return reason  # it names the holder itself
        case PeerError():
            return f"{name} gave wrong bytes: {reason}"
    return f"from {name}: {reason}"
