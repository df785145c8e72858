"""What "on disk" means, and how a disk's refusal is told.

A file is durable when its bytes *and* the entry in its folder have been flushed. Everything the store
promises rests on the three functions here, so they stand apart from the blobs and the journal that use them.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from p2pfl.errors import DataDirectoryError, OutOfFilesError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and start again",
    errno.EDQUOT: "the disk quota is used up; free some space and start again",
    errno.EROFS: "the file system is read-only; make it writable or choose another directory",
    errno.EACCES: "this user may not; change the permissions or choose another directory",
    errno.EPERM: "this user may not; change the permissions or choose another directory",
    errno.EIO: "the disk reports an error; check the disk",
    errno.ENOENT: "it is not there; was it removed while p2pfl was using it?",
    errno.ENOTDIR: "a part of that path is a file, not a folder; choose another directory",
    errno.EEXIST: "a file of that name is in the way; remove it or choose another directory",
}
"""What to do about the refusals a person can change; the others are told in the system's words."""


EARLY_FLUSH_BYTES = 16 * 1024 * 1024
"""Written between two early flushes: a 400 MB file at a fast link's pace took 0.7 s to disk, not 1.0."""

BEGIN_FLUSH_BYTES = 512 * 1024
"""Of a shorter file, written before the disk is told to begin with them. For long ones that was slower:
whoever tells a busy disk waits for it."""


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside into a DataDirectoryError: "cannot *action* *path*: why and what to do".

    Raises:
        DataDirectoryError: the operating system refused.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise OutOfFilesError(
                f"cannot {action} {path}: too many files and connections are open; raise the limit of this "
                "process (`ulimit -n`)"
            ) from error
        why = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise DataDirectoryError(f"cannot {action} {path}: {why}") from error


def flush(descriptor: int) -> None:
    """Return when every byte written to *descriptor* is on disk (an OSError is the caller's)."""
    if sys.platform == "darwin":
        import fcntl

        # macOS leaves an fsynced file in the drive's cache; only this reaches the medium. Some file systems
        # lack it.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def begin_flush(descriptor: int, offset: int, count: int) -> None:
    """Have the system begin to write *count* fresh bytes from *offset* on to disk, where it can be told so.

    Linux begins at once when it hears that pages will not be needed, and keeps them, since they are dirty. It
    may wait for a disk that has much to do, so this is for a few bytes.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a file system may not know this; `flush` does it all then
            os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_DONTNEED)


def flush_folder(folder: Path) -> None:
    """Return when the entries of *folder* are on disk. Windows has no such call, it logs them by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create *folder*, readable by this user only, and its parents, durably; do nothing when it is there.

    Raises:
        DataDirectoryError: the operating system refused.
    """
    with disk_errors("create the folder", folder):
        missing = [folder, *folder.parents]
        missing = missing[: next(index for index, path in enumerate(missing) if path.exists())]
        if not missing:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
            return
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            flush_folder(path.parent)


class FlushAhead(Protocol):
    """Lets a disk begin with a file while more of it arrives, so that little is left for the last flush."""

    def wrote(self, count: int) -> None:
        """Note *count* more bytes."""

    def join(self) -> None:
        """Wait for what is under way, after which the descriptor may be closed.

        Raises:
            OSError: the disk refused. The system tells this once, so a later flush that succeeds proves
                nothing.
        """


def flush_ahead(descriptor: int, offset: int, length: int) -> FlushAhead:
    """Return what is to be told of writing a file from *offset* on, until it has *length* bytes."""
    return BackgroundFlush(descriptor) if length > EARLY_FLUSH_BYTES else HintedFlush(descriptor, offset)


class HintedFlush:
    """Has the system begin with a short file, piece by piece, and waits for nothing."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._begun = self._written = offset

    def wrote(self, count: int) -> None:
        """Note *count* more bytes; have those since the last time written when they are enough."""
        self._written += count
        if self._written - self._begun >= BEGIN_FLUSH_BYTES:
            begin_flush(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written

    def join(self) -> None:
        """Wait for nothing: what fails is told by the last flush."""


class BackgroundFlush:
    """Flushes a long file in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._since = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def wrote(self, count: int) -> None:
        """Note *count* more bytes; begin to flush when there are enough and no flush is under way."""
        self._since += count
        if self._since >= EARLY_FLUSH_BYTES and (self._thread is None or not self._thread.is_alive()):
            self._since = 0
            self._thread = threading.Thread(target=self._run, name="early-flush")
            self._thread.start()

    def join(self) -> None:
        """Wait for the flush under way, and tell whether one failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._error = error
