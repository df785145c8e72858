"""Blobs on disk: files named by the BLAKE3 digest of their bytes.

One folder holds the blobs, flat: a node keeps a handful, never thousands. A name of a digest in it means:
complete, verified and durable. Below it are two more, on the same file system, so that a rename moves a file:

* `unflushed/` holds blobs that are complete and verified but not flushed: the updates of the open round. Most
  are deleted with the next commit, before the system has written them out, and what a power cut takes of them
  can be trained or pulled again; flushing them took more time than all else in a round. What is found there
  at a start is hashed again before it is believed (`recover`).
* `tmp/` holds what is no blob yet, or none any more: `new-...` is written by the worker, `DIGEST.part` is a
  pull under way or broken off, kept so that the next pull goes on where it stopped, `old-...` waits to be
  deleted.

All calls block on the disk and may be made from any thread; a `PartialBlob` is used by one thread at a time.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from p2pfl.errors import BlobError
from p2pfl.store.durable import begin_flush, disk_errors, flush, flush_folder, make_folder
from p2pfl.store.hashing import digest_of
from p2pfl.store.partial import PartialBlob, Watch

logger = logging.getLogger(__name__)

_DIGEST = re.compile("[0-9a-f]{64}")

QUICK_BYTES = 2 * 1024 * 1024
"""A blob up to here is opened, hashed, written or checked in a millisecond or two, less than it takes a busy
machine to hand that to a thread and back: an event loop may do it itself. Flushing it may take long.
"""


class BlobReader:
    """The blobs of a folder, to look at only: safe while a node writes there, or when nothing is there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._unflushed = directory / "unflushed"
        self._durable_prefix = f"{directory}{os.sep}"
        self._prefixes = (self._durable_prefix, f"{self._unflushed}{os.sep}")
        """Of the files' names. Every round asks for several blobs: texts are looked up in half the time."""

    @property
    def folders(self) -> tuple[Path, Path]:
        """The folders of passing and of durable blobs; a blob is moved from the first to the second."""
        return self._unflushed, self.directory

    def path(self, digest: str) -> Path:
        """Return where blob *digest* is, or would be once it is durable.

        Raises:
            BlobError: *digest* is not a digest; a peer's word never becomes a path unchecked.
        """
        return Path(self._find(digest) or self._durable_prefix + digest)

    def places(self, digest: str) -> tuple[Path, Path]:
        """Return where blob *digest* lies while it is passing, and where it is moved to when it is durable.

        Raises:
            BlobError: *digest* is not a digest.
        """
        _judge(digest)
        return self._unflushed / digest, self.directory / digest

    def has(self, digest: str) -> bool:
        """Whether blob *digest* is here and complete."""
        return self._find(digest) is not None

    def is_durable(self, digest: str) -> bool:
        """Whether blob *digest* is here, complete and durable."""
        return self._find(digest) == self._durable_prefix + digest

    def is_intact(self, digest: str) -> bool:
        """Whether blob *digest* is here, durable, and has the bytes it is named by: reads them all.

        Raises:
            DataDirectoryError: the disk refused.
        """
        path = self.path(digest)
        with disk_errors("read", path):
            try:
                return self.is_durable(digest) and digest_of(path) == digest
            except FileNotFoundError:  # its node has deleted it meanwhile
                return False

    def size(self, digest: str) -> int:
        """Return the length of blob *digest* in bytes.

        Raises:
            FileNotFoundError: it is not here (any more), as opening its path would tell.
        """
        return self.path(digest).stat().st_size

    def digests(self) -> frozenset[str]:
        """Return the digests of all blobs here."""
        return frozenset(path.name for path in self._files())

    def _find(self, digest: str) -> str | None:
        """Return the name of the file of blob *digest*, None where it is not here.

        Raises:
            BlobError: *digest* is not a digest.
        """
        _judge(digest)
        for prefix in self._prefixes:
            if os.path.isfile(prefix + digest):  # noqa: PTH113 - see `_prefixes`
                return prefix + digest
        return None

    def _files(self) -> Iterator[Path]:
        """Yield the files of all blobs here."""
        for folder in (self.directory, self._unflushed):
            if folder.is_dir():
                with disk_errors("list the folder", folder):
                    yield from [path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)]


class BlobStore(BlobReader):
    """The blobs of the node that holds the data directory's lock; one instance a folder."""

    def __init__(self, directory: Path) -> None:
        """Open *directory*, made where missing, and drop what was half-written or half-deleted.

        Raises:
            DataDirectoryError: the folder cannot be made or written to.
        """
        super().__init__(directory)
        self._temporary = directory / "tmp"
        self._lock = threading.Lock()
        self._open: set[str] = set()
        make_folder(self._temporary)
        make_folder(self._unflushed)
        with disk_errors("clean the folder", self._temporary):
            for path in (*self._temporary.glob("new-*"), *self._temporary.glob("old-*")):
                path.unlink(missing_ok=True)

    def recover(self, wanted: Collection[str]) -> None:
        """Hash again what an earlier process left unflushed of *wanted*, drop the rest; call it once, first.

        Raises:
            DataDirectoryError: the disk refused.
        """
        with disk_errors("clean the folder", self._unflushed):
            for path in list(self._unflushed.iterdir()):
                if path.name not in wanted or digest_of(path) != path.name:
                    path.unlink(missing_ok=True)

    def new_path(self) -> Path:
        """Return a path for the worker to write a file to that `adopt` then makes a blob."""
        return self._temporary / f"new-{uuid.uuid4().hex}"

    def adopt(self, path: Path, digest: str, *, durable: bool = True) -> None:
        """Make the file at *path* the blob *digest*; return when it is on disk if it is to be *durable*.

        Our own worker hashed it while writing, so it is not read again.

        Raises:
            DataDirectoryError: the file is not there, or the disk refused.
        """
        target = self._target(digest, durable=durable)
        # A collection that has just found an old blob of this name needless must not take the new one away.
        with disk_errors("keep the blob", target), self._lock:
            if durable:
                _move_durably(path, target)
            else:
                path.replace(target)

    def keep(self, digest: str) -> None:
        """Make blob *digest*, which is here, durable if it is not yet.

        Raises:
            FileNotFoundError: it is not here (any more).
            DataDirectoryError: the disk refused.
        """
        path = self.path(digest)
        if path.parent != self.directory:
            with disk_errors("keep the blob", path):
                _move_durably(path, self.directory / digest)
        elif not path.is_file():
            raise FileNotFoundError(path)

    def discard(self, digest: str) -> None:
        """Delete blob *digest*, whose bytes are not what they should be. Whoever reads it goes on reading.

        Raises:
            DataDirectoryError: the disk refused.
        """
        with self._lock:
            for path in self.places(digest):
                with disk_errors("delete the unusable blob", path):
                    path.unlink(missing_ok=True)

    def begin_keeping(self, digest: str) -> None:
        """Let the disk begin with blob *digest*, which `keep` is soon to be asked for, if it is short.

        Raises:
            DataDirectoryError: it is not here, or the disk refused.
        """
        path = self.path(digest)
        with disk_errors("keep the blob", path), path.open("r+b", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            if length <= QUICK_BYTES:
                begin_flush(file.fileno(), 0, length)

    def _target(self, digest: str, *, durable: bool) -> Path:
        _judge(digest)
        return (self.directory if durable else self._unflushed) / digest

    def partial(
        self,
        digest: str,
        length: int,
        *,
        durable: bool = True,
        soon: bool = False,
        watch: Watch | None = None,
    ) -> PartialBlob:
        """Begin, or go on with, pulling blob *digest* of exactly *length* bytes. Close what is returned.

        It is to be *durable* when it is finished, or only *soon* after (`keep`). *watch* is shown its bytes.

        Raises:
            DataDirectoryError: the disk refused.
            RuntimeError: this digest is being pulled already; the caller keeps pulls of one blob apart.
        """
        target = self._target(digest, durable=durable)
        with self._lock:
            if digest in self._open:
                raise RuntimeError(f"blob {digest} is being pulled already")
            self._open.add(digest)
        try:
            path = self._temporary / f"{digest}.part"
            closed = functools.partial(self._closed, digest)
            return PartialBlob(path, target, length, closed, durable=durable, soon=soon, watch=watch)
        except BaseException:
            self._closed(digest)
            raise

    @contextmanager
    def reading(self, digest: str) -> Iterator[FileIO]:
        """Open blob *digest* to be read for long: its bytes stay, also when it is collected meanwhile.

        Raises:
            FileNotFoundError: it is not here.
        """
        with self.path(digest).open("rb", buffering=0) as file:
            yield file

    def collect(self, is_needed: Callable[[str], bool]) -> list[Path]:
        """Take blobs and broken pulls that nobody needs out of the store; return their files, to be deleted.

        *is_needed* is asked in this thread about every digest seen, so it can know of blobs that come in
        meanwhile. Pulls under way stay. Taking out is quick, deleting long files is not: whoever waits for
        this need not wait for `delete`. A file that cannot be moved (open elsewhere, on Windows) is left for
        the next time.
        """
        taken = []
        for path in [*self._files(), *self._temporary.glob("*.part")]:
            old = self._temporary / f"old-{uuid.uuid4().hex}"
            with self._lock:
                if path.stem in self._open or is_needed(path.stem):
                    continue
                try:
                    path.replace(old)
                except OSError as error:
                    logger.warning("cannot delete the unused blob %s: %s", path.name, error)
                else:
                    taken.append(old)
        return taken

    def delete(self, files: Collection[Path]) -> None:
        """Delete what `collect` took out. What cannot be deleted now is, with the next start."""
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("cannot delete %s: %s", path, error)

    def free_bytes(self) -> int:
        """Return how many bytes this user can still write to the store's file system."""
        with disk_errors("ask for the free space of", self.directory):
            return shutil.disk_usage(self.directory).free

    def _closed(self, digest: str) -> None:
        with self._lock:
            self._open.discard(digest)


def _judge(digest: str) -> None:
    """Check that *digest* is one.

    Raises:
        BlobError: it is not.
    """
    if not _DIGEST.fullmatch(digest):
        raise BlobError(f"{digest[:80]!r} is no blob's name; expected 64 lower-case hexadecimal digits")


def _move_durably(path: Path, target: Path) -> None:
    """Make the file at *path* the durable file *target* (an OSError is the caller's)."""
    with path.open("r+b") as file:
        flush(file.fileno())
    path.replace(target)
    flush_folder(target.parent)
