"""Blobs on disk: files named by the BLAKE3 digest of their bytes.

One folder holds the blobs, flat: a node keeps a handful, never thousands. Below it `tmp/` holds what is not a
blob yet, on the same file system, so that a rename makes it one: `new-...` is written by the worker,
`DIGEST.part` is a pull under way or broken off, kept so that the next pull goes on where it stopped. A name
without a suffix therefore means: complete, verified and durable.

All calls block on the disk and may be made from any thread; a `PartialBlob` is used by one thread at a time.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from p2pfl.errors import BlobError
from p2pfl.store.durable import EarlyFlush, disk_errors, flush, flush_folder, make_folder

logger = logging.getLogger(__name__)

_DIGEST = re.compile("[0-9a-f]{64}")

REHASH_CHUNK_BYTES = 1024 * 1024
"""Read at a time when a broken pull is taken up again; memory stays small whatever the blob's length."""


class BlobReader:
    """The blobs of a folder, to look at only: safe while a node writes there, or when nothing is there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Return where blob *digest* is, or would be.

        Raises:
            BlobError: *digest* is not a digest; a peer's word never becomes a path unchecked.
        """
        if not _DIGEST.fullmatch(digest):
            raise BlobError(f"{digest[:80]!r} is no blob's name; expected 64 lower-case hexadecimal digits")
        return self.directory / digest

    def has(self, digest: str) -> bool:
        """Whether blob *digest* is here, complete and durable."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Return the length of blob *digest* in bytes.

        Raises:
            FileNotFoundError: it is not here (any more), as opening its path would tell.
        """
        return self.path(digest).stat().st_size

    def digests(self) -> frozenset[str]:
        """Return the digests of all blobs here."""
        if not self.directory.is_dir():
            return frozenset()
        with disk_errors("list the folder", self.directory):
            return frozenset(
                entry.name for entry in self.directory.iterdir() if _DIGEST.fullmatch(entry.name)
            )


class BlobStore(BlobReader):
    """The blobs of the node that holds the data directory's lock; one instance a folder."""

    def __init__(self, directory: Path) -> None:
        """Open *directory*, made where missing, and drop what a worker left half-written.

        Raises:
            DataDirectoryError: the folder cannot be made or written to.
        """
        super().__init__(directory)
        self._temporary = directory / "tmp"
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._adopted: set[str] = set()
        make_folder(self._temporary)
        with disk_errors("clean the folder", self._temporary):
            for path in self._temporary.glob("new-*"):
                path.unlink(missing_ok=True)

    def new_path(self) -> Path:
        """Return a path, not taken yet, for the worker to write a file to that `adopt` then makes a blob."""
        return self._temporary / f"new-{uuid.uuid4().hex}"

    def adopt(self, path: Path, digest: str) -> None:
        """Make the file at *path* the blob *digest*, durably.

        Our own worker hashed it while writing, so it is not read again.

        Raises:
            DataDirectoryError: the file is not there, or the disk refused.
        """
        target = self.path(digest)
        with self._lock:
            self._adopted.add(digest)
        with disk_errors("keep the blob", target):
            with path.open("r+b") as file:
                flush(file.fileno())
            path.replace(target)
            flush_folder(self.directory)

    def partial(self, digest: str, length: int) -> PartialBlob:
        """Begin, or go on with, pulling blob *digest* of exactly *length* bytes. Close what is returned.

        Raises:
            DataDirectoryError: the disk refused.
            RuntimeError: this digest is being pulled already; the caller keeps pulls of one blob apart.
        """
        target = self.path(digest)
        with self._lock:
            if digest in self._open:
                raise RuntimeError(f"blob {digest} is being pulled already")
            self._open.add(digest)
        try:
            return PartialBlob(
                self._temporary / f"{digest}.part", target, length, lambda: self._closed(digest)
            )
        except BaseException:
            self._closed(digest)
            raise

    def collect(self, keep: Collection[str]) -> None:
        """Delete the blobs and broken pulls outside *keep*.

        Pulls under way stay. So does, for one more call, what was adopted since the last one: the protocol,
        which says what to keep, may not have heard of it yet. Pulled blobs need no such grace: it asked for
        them by name. A file that cannot be deleted (open elsewhere, on Windows) is left for the next time.
        """
        with self._lock:
            spared = self._adopted | self._open | set(keep)
            self._adopted.clear()
            doomed = [self.directory / digest for digest in self.digests() - spared]
            doomed += [path for path in self._temporary.glob("*.part") if path.stem not in spared]
            for path in doomed:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    logger.warning("cannot delete the unused blob %s: %s", path.name, error)

    def free_bytes(self) -> int:
        """Return how many bytes this user can still write to the store's file system."""
        with disk_errors("ask for the free space of", self.directory):
            return shutil.disk_usage(self.directory).free

    def _closed(self, digest: str) -> None:
        with self._lock:
            self._open.discard(digest)


class PartialBlob:
    """A blob being pulled: hashed and written as it arrives, a blob only once `finish` has verified it.

    As a context manager it is closed at the end, and what has arrived is kept for the next attempt.
    """

    def __init__(self, path: Path, target: Path, length: int, on_close: Callable[[], None]) -> None:
        self._path = path
        self._target = target
        self._on_close = on_close
        self.length = length
        """Bytes of the whole blob; no more are ever written."""
        self.offset = 0
        """Bytes here so far: where the next `write` goes, and where a peer is asked to begin."""
        self._hasher = blake3()
        with disk_errors("write", path):
            # "a" creates without truncating; unbuffered, since pieces come in large.
            self._file: FileIO | None = path.open("a+b", buffering=0)
            try:
                self._take_up(self._file)
            except BaseException:
                self._file.close()
                raise
            self._early = EarlyFlush(self._file.fileno())

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append *piece*.

        Raises:
            BlobError: more bytes than the blob's length; nothing of *piece* is written.
            DataDirectoryError: the disk refused, for example because it is full.
        """
        file = self._opened()
        if self.offset + len(piece) > self.length:
            raise BlobError(
                f"blob {self._target.name} is longer than announced: {self.length} bytes expected, "
                f"{self.offset + len(piece)} received"
            )
        self._hasher.update(piece)
        view = memoryview(piece)
        with disk_errors("write", self._path):
            while view:
                written = file.write(view)
                self.offset += written
                self._early.wrote(written)
                view = view[written:]

    def finish(self) -> None:
        """Verify the blob, make it durable under its digest, and close.

        Raises:
            BlobError: bytes are missing (what is here is kept for the next attempt), or the digest is wrong
                (it is deleted).
            DataDirectoryError: the disk refused.
        """
        file = self._opened()
        if self.offset != self.length:
            raise BlobError(
                f"blob {self._target.name} is incomplete: {self.offset} of {self.length} bytes are here"
            )
        found = self._hasher.hexdigest()
        if found != self._target.name:
            self.discard()
            raise BlobError(f"blob {self._target.name} arrived with other bytes: their digest is {found}")
        try:
            with disk_errors("keep the blob", self._target):
                self._early.join()
                flush(file.fileno())
                file.close()  # before the rename: Windows does not rename open files
                self._path.replace(self._target)
                flush_folder(self._target.parent)
        finally:
            self.close()

    def close(self) -> None:
        """Stop here and keep what has arrived for the next attempt. Does nothing the second time."""
        if self._file is None:
            return
        try:
            # What could not be flushed is only a partial: the next attempt hashes it again.
            with suppress(OSError):
                self._early.join()
            self._file.close()
        finally:
            self._file = None
            self._on_close()

    def discard(self) -> None:
        """Close and delete what has arrived."""
        self.close()
        with disk_errors("delete", self._path):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            raise ValueError(f"the pull of blob {self._target.name} is closed")
        return self._file

    def _take_up(self, file: FileIO) -> None:
        """Hash what an earlier attempt left; begin anew where that is more than the blob can have."""
        if os.fstat(file.fileno()).st_size > self.length:
            file.truncate(0)
        file.seek(0)
        for piece in _pieces(file):
            self._hasher.update(piece)
            self.offset += len(piece)


def _pieces(file: FileIO) -> Iterator[memoryview]:
    """Read the rest of *file* piece by piece into one buffer."""
    buffer = memoryview(bytearray(REHASH_CHUNK_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]
