"""Durability: how files and folders are flushed to disk, and how errors of the disk are reported.

A file is durable when its bytes *and* its entry in the folder are flushed. The guarantees of blobs and
journal rest on the functions here, so they are a module of their own.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

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
"""What a person can do about an error; other errors are reported in the system's words."""

EARLY_FLUSH_BYTES = 16 * 1024 * 1024
"""Bytes written between two background flushes: a 400 MB file from a fast link was on disk after 0.7 s
instead of 1.0 s."""

BEGIN_FLUSH_BYTES = 512 * 1024
"""Bytes of a shorter file written before the system is told to begin to flush them. For long files this was
slower: the call waits for a busy disk."""


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
    """Let the system begin to flush *count* new bytes from *offset* on, where it has a call for that.

    Linux begins at once when it is told that pages will not be needed, and keeps them, since they are dirty.
    The call may wait for a busy disk, so it is meant for few bytes.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # a file system may not know this; `flush` does it all then
            os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_DONTNEED)


def flush_folder(folder: Path) -> None:
    """Return when the entries of *folder* are on disk. Windows has no such call and logs them by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create *folder*, readable by this user only, and its parents, durably; do nothing if it exists.

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


def open_private(path: Path) -> BinaryIO:
    """Open *path* for writing, empty, and readable by this user only (an OSError is the caller's)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    if os.name == "posix":
        os.fchmod(descriptor, 0o600)
    return open(descriptor, "wb")  # noqa: PTH123 - a descriptor, opened with a mode


class FlushAhead(Protocol):
    """Flushes a file while more of it arrives, so that little is left for the last flush."""

    def wrote(self, count: int) -> None:
        """Count *count* more bytes as written."""

    def join(self) -> None:
        """Wait for a running flush; then the descriptor may be closed.

        Raises:
            OSError: the disk refused. The system reports this only once, so a later successful flush proves
            nothing.
        """


def flush_ahead(descriptor: int, offset: int, length: int) -> FlushAhead:
    """Return a `FlushAhead` for a file of *length* bytes that is written from *offset* on."""
    return BackgroundFlush(descriptor) if length > EARLY_FLUSH_BYTES else HintedFlush(descriptor, offset)


class HintedFlush:
    """Lets the system begin to flush a short file, piece by piece, and never waits."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._begun = self._written = offset

    def wrote(self, count: int) -> None:
        """Count *count* more bytes; begin to flush them once there are enough."""
        self._written += count
        if self._written - self._begun >= BEGIN_FLUSH_BYTES:
            begin_flush(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written

    def join(self) -> None:
        """Return at once: the last flush reports errors."""


class BackgroundFlush:
    """Flushes a long file in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._since = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def wrote(self, count: int) -> None:
        """Count *count* more bytes; begin a flush once there are enough and none is running."""
        self._since += count
        if self._since >= EARLY_FLUSH_BYTES and (self._thread is None or not self._thread.is_alive()):
            self._since = 0
            self._thread = threading.Thread(target=self._run, name="early-flush")
            self._thread.start()

    def join(self) -> None:
        """Wait for the running flush, and raise the error of a failed one."""
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
