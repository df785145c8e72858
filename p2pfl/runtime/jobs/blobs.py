"""The blobs that jobs work on: here with the right bytes, or pulled, checked and made durable.

What this process knows of a blob - that its bytes were hashed, that they may be used - it finds out once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Fetch, ReadSchema
from p2pfl.errors import BlobError, NetworkError, OutOfFilesError
from p2pfl.net.bulk.request import PullRequest
from p2pfl.schema import Layout, schema_in
from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.store.check import BlobValidator, check_blob
from p2pfl.store.durable import disk_errors
from p2pfl.store.hashing import digest_of

Key = TypeVar("Key")

MAX_CHECKED = 64
"""Digests remembered as hashed or checked: a roster's updates of a few rounds."""


class Listener(Protocol):
    """Who is told how a blob comes."""

    def feed(self, event: inputs.AnyInput) -> None:
        """Give the protocol an input."""

    def publish(self, event: events.AnyEvent) -> None:
        """Tell people."""

    def name_of(self, node: str) -> str:
        """Return what people call *node*."""


class Puller(Protocol):
    """The part of the mesh that brings blobs."""

    async def pull(self, request: PullRequest) -> None:
        """Bring the requested blob into the store."""


class Blobs:
    """The blobs of one node, as far as its jobs need them."""

    def __init__(self, listener: Listener, store: BlobStore, puller: Puller) -> None:
        self._listener = listener
        self._store = store
        self._puller = puller
        self._hashed: dict[str, None] = {}
        """Blobs whose bytes this process has hashed, or had hashed while they were written."""
        self._damaged: dict[str, None] = {}
        """Blobs whose bytes were others when they were to be used, and that are not here again yet."""
        self._checked: dict[tuple[str, str], None] = {}
        """Blobs that are usable, each with its parent."""
        self._can_check = False
        """Whether what a check imports is there."""

    def note_intact(self, digest: str) -> None:
        """Remember that the bytes of a blob were hashed while they were written."""
        _note(self._hashed, digest)

    def note_usable(self, digest: str, parent: str) -> None:
        """Remember that a blob trained from *parent* may be used."""
        _note(self._checked, (digest, parent))

    async def obtain(self, effect: Fetch) -> inputs.BlobReady | inputs.BlobFailed:
        """Have the blob here, checked and as durable as *effect* wants it; return how that ended.

        Raises:
            DataDirectoryError: the disk refused.
        """
        result = await self._obtain(effect)
        if effect.durable and isinstance(result, inputs.BlobReady):
            return await self._keep(effect.digest)
        return result

    async def _keep(self, digest: str) -> inputs.BlobReady | inputs.BlobFailed:
        """Make a blob that is here and checked durable, telling the protocol before that it is here."""
        if not self._store.is_durable(digest):
            self._listener.feed(inputs.BlobReady(digest, durable=False))
            try:
                await asyncio.to_thread(self._store.keep, digest)
            except (FileNotFoundError, OutOfFilesError) as error:
                return inputs.BlobFailed(digest, str(error), invalid=False)
        return inputs.BlobReady(digest, durable=True)

    async def _obtain(self, effect: Fetch) -> inputs.BlobReady | inputs.BlobFailed:
        """Have the blob here and checked, not necessarily on disk."""
        digest = effect.digest
        try:
            checker = None
            parent = self._parent_of(effect)
            if self._store.has(digest) and not await self._is_intact(digest):
                await self._drop_damaged(digest)
            if not self._store.has(digest):
                checker = await self._new_checker(effect.layout, parent)
                await self._puller.pull(
                    PullRequest(
                        digest,
                        effect.layout.file_bytes,
                        effect.sources,
                        functools.partial(self._on_pull, digest),
                        durable=False,
                        soon=effect.durable,
                        watch=checker.take,
                    )
                )
                _note(self._hashed, digest)
                self._damaged.pop(digest, None)
            if checker is not None and checker.has_seen_all:
                checker.conclude(digest)
                _note(self._checked, (digest, effect.parent))
            else:
                await self._check(effect, parent)
        except BlobError as error:
            is_here = self._store.has(digest)
            if is_here:  # no use here, and whoever has it offers it again
                await self._discard(digest)
            return inputs.BlobFailed(digest, str(error), invalid=is_here)
        except (NetworkError, FileNotFoundError, OutOfFilesError) as error:
            return inputs.BlobFailed(digest, str(error), invalid=False)
        return inputs.BlobReady(digest, durable=False)

    def _parent_of(self, effect: Fetch) -> Path | Literal["any"]:
        """Return where the parent of a blob is; "any" where its elements are settled."""
        is_settled = effect.parent in ("", effect.digest)
        return "any" if is_settled else self._store.path(effect.parent)

    async def _is_intact(self, digest: str) -> bool:
        """Whether the bytes of a blob that is here are those it is named by, as far as this process knows.

        They are hashed once in a process: a disk loses bits mostly while it is off or unread.

        Raises:
            FileNotFoundError: it is not here any more.
            DataDirectoryError: the disk refused.
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
        """Delete a blob whose bytes are not its own any more, and say so."""
        _note(self._damaged, digest)
        await self._discard(digest)
        self._listener.publish(
            events.Notice(
                "warning",
                f"the model {digest[:12]} on this disk is damaged: it was deleted and is pulled again from "
                "peers before it is used. Look at this disk's health",
            )
        )

    async def _discard(self, digest: str) -> None:
        self._hashed.pop(digest, None)
        for known in [one for one in self._checked if one[0] == digest]:
            del self._checked[known]
        await asyncio.to_thread(self._store.discard, digest)

    async def has_lost(self, model: str) -> bool:
        """Find out, after the worker failed, whether the model it read is damaged; then drop it and tell so.

        Raises:
            DataDirectoryError: the disk refused.
        """
        self._hashed.pop(model, None)
        try:
            if await self._is_intact(model):
                return False
            await self._drop_damaged(model)
        except FileNotFoundError:
            if model not in self._damaged:  # else the other job that used it has found out
                return False
        except OutOfFilesError:
            return False  # nobody knows; whoever uses it next finds out
        self._listener.feed(
            inputs.BlobFailed(model, "its file on this disk is damaged", invalid=False, is_lost=True)
        )
        return True

    def _on_pull(self, digest: str, node: str, done: int, total: int) -> None:
        if total > QUICK_BYTES:  # others are through before anybody could see them
            self._listener.feed(inputs.BlobProgress(digest))
            self._listener.publish(events.ProgressMade(0, "pull", done, total, self._listener.name_of(node)))

    async def _new_checker(self, layout: Layout, parent: Path | Literal["any"]) -> BlobValidator:
        """Return a checker of files of *layout*; the first one imports numpy, which takes 0.1 s."""
        if self._can_check:
            return BlobValidator(layout, parent)
        checker = await asyncio.to_thread(BlobValidator, layout, parent)
        self._can_check = True
        return checker

    async def _check(self, effect: Fetch, parent: Path | Literal["any"]) -> None:
        """Check a blob that nobody looked at while it came."""
        digest, layout = effect.digest, effect.layout
        if (digest, effect.parent) in self._checked:
            return
        path = self._store.path(digest)
        with _reading(path):
            if self._can_check and layout.file_bytes <= QUICK_BYTES:
                check_blob(path, layout, parent)
            else:
                await asyncio.to_thread(check_blob, path, layout, parent)
                self._can_check = True
        _note(self._checked, (digest, effect.parent))

    async def read_schema(self, effect: ReadSchema) -> inputs.SchemaRead:
        """Return the schema in the header of a model that is here; else pull no more of it than that."""
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
        """Return the first *length* bytes of a model that is not here.

        Raises:
            NetworkError, BlobError: it cannot be had.
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
    """Turn an OSError inside into a DataDirectoryError, except that a file is not here.

    Raises:
        DataDirectoryError: the disk refused.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError:
        with disk_errors("read", path):
            raise


def _note(memory: dict[Key, None], key: Key) -> None:
    """Remember *key*, and forget the oldest where there are too many."""
    memory[key] = None
    if len(memory) > MAX_CHECKED:
        del memory[next(iter(memory))]


def _read_start(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)
