"""Blobs on disk: files named by the BLAKE3 digest of their bytes.

The store is the one owner of a blob's lifetime: it alone says where a blob lies, whether it is durable, and
how long it stays.

* A blob is a file `DIGEST` in one flat folder: a node keeps a handful, never thousands. The file is complete
  and verified, and **never moves**, so a path that was given out is valid until the blob is deleted.
* A **durable** blob has an empty marker file, `DIGEST.durable`, beside it. It is made after the blob's bytes
  were flushed, and before the folder is. A blob without a marker is **unflushed**: the updates of the open
  round. Most are deleted with the next commit, before the system has written them out, and what a power cut
  takes of them can be trained or pulled again; flushing them took more time than all else in a round. An
  unflushed blob that is found at a start is hashed again before it is believed (`recover`). A marker alone
  proves nothing about the bytes after a power cut: names and bytes reach the disk in any order.
* A **pinned** blob is not deleted, whatever the protocol needs (`pin`, `unpin`, `collect`).
* The **frozen tensors** of a run are a blob too, which is in `frozen/` beside this folder for good. The
  worker writes it there, or it is moved there after its pull, before its path is given out.
* `tmp/`, on the same file system, holds files that are no blob yet, or none any more: `new-...` is written by
  the worker, `DIGEST.part` is a pull under way or broken off, kept so that the next pull goes on where it
  stopped, `old-...` waits to be deleted.

All calls block on the disk and may be made from any thread; a `PartialBlob` is used by one thread at a time.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from p2pfl.errors import BlobError
from p2pfl.learning.local_files import frozen_file
from p2pfl.store.durable import begin_flush, disk_errors, flush, flush_folder, make_folder
from p2pfl.store.hashing import digest_of
from p2pfl.store.partial import PartialBlob, PieceWatcher

logger = logging.getLogger(__name__)

_DIGEST = re.compile("[0-9a-f]{64}")

DURABLE = ".durable"
"""Behind the digest, the name of the empty file that marks a durable blob."""

QUICK_BYTES = 2 * 1024 * 1024
"""A blob up to this size is opened, hashed, written or checked in a millisecond or two. A busy machine needs
longer to pass that to a thread and back, so an event loop may do it itself. A flush may still take long."""


class BlobReader:
    """Read access to the blobs of a folder: safe while a node writes there, or when the folder is missing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._prefix = f"{directory}{os.sep}"
        """First part of the files' names: every round looks up several blobs, and strings take half the time
        of `Path`."""

    def path(self, digest: str) -> Path:
        """Return the path of blob *digest*, whether it is here or not; the path never changes.

        Raises:
            BlobError: *digest* is not a digest: no text of a peer becomes a path unchecked.
        """
        return Path(self._name(digest))

    def has(self, digest: str) -> bool:
        """Whether blob *digest* is here and complete."""
        return os.path.isfile(self._name(digest))  # noqa: PTH113 - see `_prefix`

    def is_durable(self, digest: str) -> bool:
        """Whether blob *digest* is here, complete and durable."""
        name = self._name(digest)
        return os.path.isfile(name + DURABLE) and os.path.isfile(name)  # noqa: PTH113 - see `_prefix`

    def is_intact(self, digest: str) -> bool:
        """Whether blob *digest* is here, durable, and has the right bytes; reads all of them.

        Raises:
            DataDirectoryError: the disk refused.
        """
        path = self.path(digest)
        with disk_errors("read", path):
            try:
                return self.is_durable(digest) and digest_of(path) == digest
            except FileNotFoundError:  # the node has deleted it meanwhile
                return False

    def size(self, digest: str) -> int:
        """Return the length of blob *digest* in bytes.

        Raises:
            FileNotFoundError: it is not here (any more).
        """
        return self.path(digest).stat().st_size

    def digests(self) -> frozenset[str]:
        """Return the digests of all blobs here."""
        return frozenset(path.name for path in self._files())

    def _name(self, digest: str) -> str:
        """Return the name of the file of blob *digest*.

        Raises:
            BlobError: *digest* is not a digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise BlobError(f"{digest[:80]!r} is no blob's name; expected 64 lower-case hexadecimal digits")
        return self._prefix + digest

    def _files(self) -> list[Path]:
        """Return the files of all blobs here."""
        if not self.directory.is_dir():
            return []
        with disk_errors("list the folder", self.directory):
            return [path for path in self.directory.iterdir() if _DIGEST.fullmatch(path.name)]


class BlobStore(BlobReader):
    """The blobs of the node that holds the data directory's lock; one instance a folder."""

    def __init__(self, directory: Path) -> None:
        """Open *directory*, create it where missing, and delete half-written and half-deleted files.

        Raises:
            DataDirectoryError: the folder cannot be created or written to.
        """
        super().__init__(directory)
        self._temporary = directory / "tmp"
        self._lock = threading.Lock()
        self._open: set[str] = set()
        """Blobs being pulled."""
        self._pins: dict[str, int] = {}
        make_folder(self._temporary)
        with disk_errors("clean the folder", self._temporary):
            for path in (*self._temporary.glob("new-*"), *self._temporary.glob("old-*")):
                path.unlink(missing_ok=True)

    def recover(self, wanted: Collection[str]) -> None:
        """Delete unflushed blobs of an earlier process, except those in *wanted*; call it once, first.

        Blobs in *wanted* are read: damaged ones are deleted, also those with a marker, which a power cut may
        have left from an earlier file of that name. All other blobs are verified before they are used.

        Raises:
            DataDirectoryError: the disk refused.
        """
        with disk_errors("clean the folder", self.directory):
            for marker in list(self.directory.glob(f"*{DURABLE}")):
                if not marker.with_suffix("").is_file():
                    marker.unlink(missing_ok=True)
            for path in self._files():
                is_wanted = path.name in wanted
                keeps = digest_of(path) == path.name if is_wanted else self.is_durable(path.name)
                if not keeps:
                    self._marker(path.name).unlink(missing_ok=True)  # a marker never stays alone
                    path.unlink(missing_ok=True)

    # --- pins -----------------------------------------------------------------------------------------------

    def pin(self, digest: str) -> None:
        """Keep blob *digest* until it was unpinned as often as it was pinned; it need not be here yet.

        Pins are for blobs in use that the protocol does not know of yet, or does not need any more.
        """
        with self._lock:
            self._pins[digest] = self._pins.get(digest, 0) + 1

    def unpin(self, digest: str) -> None:
        """Remove one pin of blob *digest*."""
        with self._lock:
            self._pins[digest] -= 1
            if not self._pins[digest]:
                del self._pins[digest]

    def is_pinned(self, digest: str) -> bool:
        """Whether blob *digest* is pinned."""
        return digest in self._pins

    # --- blobs that come ------------------------------------------------------------------------------------

    def new_path(self) -> Path:
        """Return a path to which the worker writes a file that `adopt` then makes a blob."""
        return self._temporary / f"new-{uuid.uuid4().hex}"

    def adopt(self, path: Path, digest: str, *, durable: bool = True) -> None:
        """Make the file at *path* the blob *digest*; with *durable* it is on disk on return.

        The own worker hashed it while it wrote it, so it is not read again.

        Raises:
            DataDirectoryError: the file is not there, or the disk refused.
        """
        target = self.path(digest)
        with disk_errors("keep the blob", target):
            if durable:
                with path.open("r+b") as file:
                    flush(file.fileno())
            self._enter(path, digest, flushed=durable)

    def _enter(self, path: Path, digest: str, *, flushed: bool) -> None:
        """Give the file at *path* the name of blob *digest* (an OSError is the caller's).

        *flushed* tells whether its bytes are on disk; if so, the blob is durable on return.
        """
        with self._lock:
            marker = self._marker(digest)
            if not flushed:
                if self.is_intact(digest):  # the average of one update has its bytes
                    path.unlink()
                    return
                # A person deleted only the blob, or a power cut left the marker of an earlier file.
                marker.unlink(missing_ok=True)
            path.replace(self._name(digest))
            if flushed:
                marker.touch()
        if flushed:
            flush_folder(self.directory)

    def _marker(self, digest: str) -> Path:
        """Return the path of the file whose presence tells that blob *digest* is durable."""
        return Path(self._name(digest) + DURABLE)

    def keep(self, digest: str) -> None:
        """Make blob *digest* durable if it is not yet.

        Raises:
            FileNotFoundError: it is not here (any more).
            DataDirectoryError: the disk refused.
        """
        path = self.path(digest)
        if not path.is_file():
            raise FileNotFoundError(path)
        if self.is_durable(digest):
            return
        with disk_errors("keep the blob", path):
            with path.open("r+b") as file:
                flush(file.fileno())
                with self._lock:
                    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
                    self._marker(digest).touch()
            flush_folder(self.directory)

    def discard(self, digest: str) -> None:
        """Delete blob *digest*, whose bytes are wrong. A reader that has opened it is not disturbed.

        Raises:
            DataDirectoryError: the disk refused.
        """
        with self._lock:
            for path in (self._marker(digest), self.path(digest)):  # a marker never stays alone
                with disk_errors("delete the unusable blob", path):
                    path.unlink(missing_ok=True)

    def begin_keeping(self, digest: str) -> None:
        """Begin to flush blob *digest*, if it is short, because `keep` will be called soon.

        Raises:
            DataDirectoryError: it is not here, or the disk refused.
        """
        path = self.path(digest)
        with disk_errors("keep the blob", path), path.open("r+b", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            if length <= QUICK_BYTES:
                begin_flush(file.fileno(), 0, length)

    def partial(
        self,
        digest: str,
        length: int,
        *,
        durable: bool = True,
        soon: bool = False,
        watch: PieceWatcher | None = None,
    ) -> PartialBlob:
        """Begin or continue the pull of blob *digest* of exactly *length* bytes; close the returned object.

        The finished blob is *durable*, or becomes so *soon* after (`keep`). *watch* gets its bytes.

        Raises:
            DataDirectoryError: the disk refused.
            RuntimeError: this blob is being pulled already; the caller must not pull a blob twice at a time.
        """
        target = self.path(digest)
        with self._lock:
            if digest in self._open:
                raise RuntimeError(f"blob {digest} is being pulled already")
            self._open.add(digest)
        try:
            path = self._temporary / f"{digest}.part"
            enter = functools.partial(self._enter, digest=digest, flushed=durable)
            closed = functools.partial(self._closed, digest)
            return PartialBlob(path, target, length, enter, closed, durable=durable, soon=soon, watch=watch)
        except BaseException:
            self._closed(digest)
            raise

    @contextmanager
    def reading(self, digest: str) -> Iterator[FileIO]:
        """Open blob *digest* for a long read: its bytes stay even if it is collected meanwhile.

        Raises:
            FileNotFoundError: it is not here.
        """
        try:
            opened = self.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            opened = frozen_file(self.directory, digest).open("rb", buffering=0)
        with opened as file:
            yield file

    def has_frozen(self, digest: str) -> bool:
        """Whether the frozen tensors *digest* are beside the blobs; deletes them if they are damaged.

        Raises:
            BlobError: *digest* is not a digest.
            DataDirectoryError: the disk refused.
        """
        self.path(digest)  # checks the name
        path = frozen_file(self.directory, digest)
        with disk_errors("read", path):
            if not path.exists():
                return False
            if digest_of(path) == digest:
                return True
            path.unlink()
            return False

    def move_frozen(self, digest: str) -> None:
        """Move blob *digest*, which is durable, to the frozen tensors beside the blobs.

        Raises:
            FileNotFoundError: it is not here (any more).
            DataDirectoryError: the disk refused.
        """
        target = frozen_file(self.directory, digest)
        make_folder(target.parent)
        with self._lock, disk_errors("keep", target):
            self.path(digest).replace(target)
            self._marker(digest).unlink(missing_ok=True)
            flush_folder(target.parent)

    def collect(self, keep: Container[str]) -> list[Path]:
        """Remove blobs and broken pulls that are neither in *keep* nor pinned from the store.

        Return their files, for `delete`: the removal is quick, while deleting long files is not. Running
        pulls stay. A file that cannot be moved (on Windows, open elsewhere) stays until the next time.
        """
        taken = []
        for path in [*self._files(), *self._temporary.glob("*.part")]:
            old = self._temporary / f"old-{uuid.uuid4().hex}"
            with self._lock:
                if path.stem in self._open or path.stem in self._pins or path.stem in keep:
                    continue
                try:
                    if path.parent == self.directory:
                        self._marker(path.name).unlink(missing_ok=True)
                    path.replace(old)
                except OSError as error:
                    logger.warning("cannot delete the unused blob %s: %s", path.name, error)
                else:
                    taken.append(old)
        return taken

    def delete(self, files: Collection[Path]) -> None:
        """Delete the files that `collect` returned; one that cannot be deleted goes at the next start."""
        for path in files:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("cannot delete %s: %s", path, error)

    def free_bytes(self) -> int:
        """Return the number of bytes that this user can still write to the store's file system."""
        with disk_errors("ask for the free space of", self.directory):
            return shutil.disk_usage(self.directory).free

    def _closed(self, digest: str) -> None:
        with self._lock:
            self._open.discard(digest)
