"""Provides the blobs that jobs need: verifies those in the store, pulls and checks all others.

A fetched blob may have companions, such as the state of the strategy. Their layout follows from the schema in
the header of that blob, so they are pulled after it.

The hash of a blob is computed once in a process, and the blob is checked once for each parent; the results
are remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Companion, Fetch, ReadSchema
from p2pfl.errors import BlobError, NetworkError, OutOfFilesError
from p2pfl.net.bulk.request import PullRequest
from p2pfl.schema import Layout, layout_of, schema_in
from p2pfl.spec import blob_schema
from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.store.check import BlobValidator, check_blob
from p2pfl.store.durable import disk_errors
from p2pfl.store.hashing import digest_of

Key = TypeVar("Key")

MAX_CHECKED = 64
"""Maximum number of remembered digests of each kind: the updates of a full roster in a few rounds."""


class Listener(Protocol):
    """Receives the progress of pulls: the interface of the driver."""

    def feed(self, event: inputs.AnyInput) -> None:
        """Pass an input to the protocol."""

    def publish(self, event: events.AnyEvent) -> None:
        """Publish *event* to users and observers."""

    def name_of(self, node: str) -> str:
        """Return the display name of *node*."""


class Puller(Protocol):
    """Pulls blobs from peers: the interface of the mesh."""

    async def pull(self, request: PullRequest) -> None:
        """Pull the requested blob into the store."""


class _Wanted(NamedTuple):
    """One blob that a `Fetch` wants, and how it is checked."""

    digest: str
    layout: Layout
    sources: tuple[str, ...]
    soon: bool
    """Whether it is made durable next."""
    parent: str
    """As in `Fetch`; `FINITE` if every element must be finite."""


class _UnusableError(Exception):
    """A wanted blob is not to be had, or is of no use."""

    def __init__(self, reason: str, *, invalid: bool) -> None:
        super().__init__(reason)
        self.invalid = invalid


FINITE = "finite"
"""In place of the digest of a parent: a companion has none, so each of its elements must be finite."""


class Blobs:
    """Provides blobs to the jobs of one node."""

    def __init__(self, listener: Listener, store: BlobStore, puller: Puller) -> None:
        self._listener = listener
        self._store = store
        self._puller = puller
        self._hashed: dict[str, None] = {}
        """Blobs whose hash this process has verified, after or during writing."""
        self._damaged: dict[str, None] = {}
        """Damaged blobs that were deleted and not pulled again yet."""
        self._checked: dict[tuple[str, str], None] = {}
        """Usable blobs, each with its parent or `FINITE`."""
        self._senders: dict[str, str] = {}
        """By pulled blob: the node that sent the end of it."""
        self._can_check = False
        """Whether numpy, which a check needs, has been imported."""

    def note_intact(self, digest: str) -> None:
        """Remember that the hash of a blob was verified while it was written."""
        _note(self._hashed, digest)

    def note_usable(self, digest: str, parent: str) -> None:
        """Remember that a blob trained from *parent* may be used; a companion with `FINITE`."""
        _note(self._checked, (digest, parent))

    async def obtain(self, effect: Fetch) -> inputs.BlobReady | inputs.BlobFailed:
        """Verify or pull all blobs, check them, and flush them to disk if *effect* is durable.

        Raises:
            DataDirectoryError: a disk error.
        """
        digest, companions = effect.digests[0], effect.digests[1:]
        if effect.is_frozen and await asyncio.to_thread(self._store.has_frozen, digest):
            return inputs.BlobReady(digest, durable=True)
        try:
            await self._obtain(_Wanted(digest, effect.layout, effect.sources, effect.durable, effect.parent))
            for companion in effect.companions:
                await self._obtain(await self._wanted(effect, companion))
            if effect.durable:
                await self._keep(effect.digests)
            if effect.is_frozen:
                await self._move_frozen(digest, effect.layout.file_bytes)
        except _UnusableError as error:
            return inputs.BlobFailed(digest, str(error), error.invalid, companions=companions)
        return inputs.BlobReady(digest, effect.durable, companions)

    async def _wanted(self, effect: Fetch, companion: Companion) -> _Wanted:
        """Return the wish for a *companion*; its layout follows from the header of the blob of *effect*."""
        path, length = self._store.path(effect.digest), effect.layout.header_bytes
        try:
            start = await asyncio.to_thread(_read_start, path, length)
            model = schema_in(start, effect.layout)
        except (BlobError, OSError) as error:
            raise _UnusableError(str(error), invalid=False) from error
        layout = layout_of(blob_schema(model, companion.spec, companion.role))
        parent = FINITE if effect.parent else ""
        return _Wanted(companion.digest, layout, effect.sources, effect.durable, parent)

    async def _keep(self, digests: tuple[str, ...]) -> None:
        """Flush checked blobs to disk; before that, report to the protocol that they can be used."""
        unflushed = [digest for digest in digests if not self._store.is_durable(digest)]
        if not unflushed:
            return
        self._listener.feed(inputs.BlobReady(digests[0], durable=False, companions=digests[1:]))
        try:
            for digest in unflushed:
                await asyncio.to_thread(self._store.keep, digest)
        except (FileNotFoundError, OutOfFilesError) as error:
            raise _UnusableError(str(error), invalid=False) from error

    async def _move_frozen(self, digest: str, length: int) -> None:
        """Keep the frozen tensors *digest*, of *length* bytes, that were pulled, and say so."""
        try:
            await asyncio.to_thread(self._store.move_frozen, digest)
        except FileNotFoundError as error:
            raise _UnusableError(str(error), invalid=False) from error
        sender = self._senders.pop(digest, "")
        origin = f" from {self._listener.name_of(sender)}" if sender else ""
        self._listener.publish(
            events.Notice("info", f"took {length / 1e6:.1f} MB of frozen parameters{origin}")
        )

    async def _obtain(self, wanted: _Wanted) -> None:
        """Verify or pull a blob and check it, without a flush to disk.

        Raises:
            _UnusableError: it is not to be had, or of no use.
        """
        digest = wanted.digest
        try:
            checker = None
            parent = self._parent_of(wanted)
            if self._store.has(digest) and not await self._is_intact(digest):
                await self._drop_damaged(digest)
            if not self._store.has(digest):
                checker = await self._new_checker(wanted.layout, parent)
                await self._puller.pull(
                    PullRequest(
                        digest,
                        wanted.layout.file_bytes,
                        wanted.sources,
                        functools.partial(self._on_pull, digest),
                        durable=False,
                        soon=wanted.soon,
                        watch=checker.take,
                    )
                )
                _note(self._hashed, digest)
                self._damaged.pop(digest, None)
            if checker is not None and checker.has_seen_all:
                checker.conclude(digest)
                _note(self._checked, (digest, wanted.parent))
            else:
                await self._check(wanted, parent)
        except BlobError as error:
            is_here = self._store.has(digest)
            if is_here:  # it is unusable, and a peer that has it offers it again
                await self._discard(digest)
            raise _UnusableError(str(error), invalid=is_here) from error
        except (NetworkError, FileNotFoundError, OutOfFilesError) as error:
            raise _UnusableError(str(error), invalid=False) from error

    def _parent_of(self, wanted: _Wanted) -> Path | Literal["any"] | None:
        """Return the path of the parent of a blob; "any" if the check does not depend on the parent.

        None means that every element must be finite.
        """
        if wanted.parent == FINITE:
            return None
        is_settled = wanted.parent in ("", wanted.digest)
        return "any" if is_settled else self._store.path(wanted.parent)

    async def _is_intact(self, digest: str) -> bool:
        """Return whether the hash of a blob in the store is its digest.

        The hash is computed once in a process, because data on a disk mostly decays while it is not used.

        Raises:
            FileNotFoundError: the blob is not in the store any more.
            DataDirectoryError: a disk error.
        """
        if digest in self._hashed:
            return True
        path = self._store.path(digest)
        is_quick = self._store.size(digest) <= QUICK_BYTES
        with _reading(path):
            found = digest_of(path) if is_quick else await asyncio.to_thread(digest_of, path)
        if found == digest:
            _note(self._hashed, digest)
        return found == digest

    async def _drop_damaged(self, digest: str) -> None:
        """Delete a blob whose hash is wrong, and publish a warning."""
        _note(self._damaged, digest)
        await self._discard(digest)
        self._listener.publish(
            events.Notice(
                "warning",
                f"the model {digest[:12]} on this disk is damaged; it was deleted and is pulled again from "
                "peers before it is used. Look at this disk's health",
            )
        )

    async def _discard(self, digest: str) -> None:
        self._hashed.pop(digest, None)
        for known in [one for one in self._checked if one[0] == digest]:
            del self._checked[known]
        await asyncio.to_thread(self._store.discard, digest)

    async def has_lost(self, *digests: str) -> bool:
        """Return whether a blob of *digests*, which a failed job read, is damaged; then delete and report it.

        An empty digest stands for a blob that the job did not need.

        Raises:
            DataDirectoryError: a disk error.
        """
        lost = [digest for digest in digests if digest and await self._is_lost(digest)]
        for digest in lost:
            self._listener.feed(
                inputs.BlobFailed(digest, "its file on this disk is damaged", invalid=False, is_lost=True)
            )
        return bool(lost)

    async def _is_lost(self, digest: str) -> bool:
        """Return whether a blob is damaged; then delete it."""
        self._hashed.pop(digest, None)
        try:
            if await self._is_intact(digest):
                return False
            await self._drop_damaged(digest)
        except FileNotFoundError:
            return digest in self._damaged  # another job has found the damage
        except OutOfFilesError:
            return False  # unknown; the next job that uses it checks again
        return True

    def _on_pull(self, digest: str, node: str, done: int, total: int) -> None:
        if done == total:
            self._senders[digest] = node
            if len(self._senders) > MAX_CHECKED:
                del self._senders[next(iter(self._senders))]
        if total > QUICK_BYTES:  # smaller blobs arrive before a user could see the progress
            self._listener.feed(inputs.BlobProgress(digest))
            self._listener.publish(events.ProgressMade(0, "pull", done, total, self._listener.name_of(node)))

    async def _new_checker(self, layout: Layout, parent: Path | Literal["any"] | None) -> BlobValidator:
        """Return a validator of files with *layout*; the first one imports numpy, which takes 0.1 s."""
        if self._can_check:
            return BlobValidator(layout, parent)
        checker = await asyncio.to_thread(BlobValidator, layout, parent)
        self._can_check = True
        return checker

    async def _check(self, wanted: _Wanted, parent: Path | Literal["any"] | None) -> None:
        """Check a blob that was not checked completely while it was pulled."""
        digest, layout = wanted.digest, wanted.layout
        if (digest, wanted.parent) in self._checked:
            return
        path = self._store.path(digest)
        with _reading(path):
            if self._can_check and layout.file_bytes <= QUICK_BYTES:
                check_blob(path, layout, parent)
            else:
                await asyncio.to_thread(check_blob, path, layout, parent)
                self._can_check = True
        _note(self._checked, (digest, wanted.parent))

    async def read_schema(self, effect: ReadSchema) -> inputs.SchemaRead:
        """Return the schema in the header of a model; if it is not in the store, pull only the header."""
        path, length = self._store.path(effect.digest), effect.layout.header_bytes
        try:
            if self._store.has(effect.digest):
                start = await asyncio.to_thread(_read_start, path, length)
            else:
                start = await self._pull_start(effect, length)
            return inputs.SchemaRead(effect.layout, schema_in(start, effect.layout))
        except (BlobError, NetworkError, OutOfFilesError, OSError) as error:
            return inputs.SchemaRead(effect.layout, None, str(error))

    async def _pull_start(self, effect: ReadSchema, length: int) -> bytes:
        """Pull and return the first *length* bytes of a model.

        Raises:
            NetworkError, BlobError: it cannot be pulled.
        """
        start, loop, is_here = bytearray(), asyncio.get_running_loop(), asyncio.Event()

        def look(offset: int, piece: bytes | bytearray | memoryview) -> None:
            if not offset:
                start.clear()
            if offset == len(start) < length:
                start.extend(memoryview(piece)[: length - offset])
                if len(start) == length:
                    loop.call_soon_threadsafe(is_here.set)

        request = PullRequest(
            effect.digest, effect.layout.file_bytes, effect.sources, durable=False, watch=look
        )
        pulling = asyncio.create_task(self._puller.pull(request))
        waiting = asyncio.create_task(is_here.wait())
        try:
            await asyncio.wait((pulling, waiting), return_when=asyncio.FIRST_COMPLETED)
            if pulling.done():
                pulling.result()
        finally:
            for task in (pulling, waiting):
                task.cancel()
            await asyncio.gather(pulling, waiting, return_exceptions=True)
        return bytes(start)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert an OSError in this context into a DataDirectoryError, except for a missing file.

    Raises:
        DataDirectoryError: a disk error.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError:
        with disk_errors("read", path):
            raise


def _note(memory: dict[Key, None], key: Key) -> None:
    """Remember *key*; forget the oldest key if there are too many."""
    memory[key] = None
    if len(memory) > MAX_CHECKED:
        del memory[next(iter(memory))]


def _read_start(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)
