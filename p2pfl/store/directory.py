"""A node's data directory: its layout, and the lock that reserves it for one process.

The lock is the operating system's, on an open file. It ends with the process, however that ends, so no stale
lock stays. The file contains the process id of the holder, only for the error message of a second process. To
read the directory (`p2pfl history`) needs no lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.paths import full, holds_folder, obstacle, user_data
from p2pfl.store.blobs import BlobReader
from p2pfl.store.database import check_length
from p2pfl.store.durable import disk_errors, make_folder
from p2pfl.store.reader import JournalReader

logger = logging.getLogger(__name__)


LEAST_FREE_BYTES = 100 * 1024**2
"""Free space that even a run of a small model needs, with its logs."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.+")

OWN_NAMES = frozenset({"blobs", "lock", "logs", "observe.json", "saved", "trainer.json", "trainer.sock"})
"""What nodes make in a data directory, beside the journal and its companions."""

_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""Error codes when another process has the lock."""


class DataDirectory:
    """Paths in the data directory at *path*; `open` makes it where missing and takes the lock."""

    def __init__(self, path: Path) -> None:
        self.path = full(path)
        self.journal_path = self.path / "journal.sqlite"
        self.blobs_path = self.path / "blobs"
        self.logs_path = self.path / "logs"
        self.observe_path = self.path / "observe.json"
        """Address and token for observers of the running node, see `p2pfl.runtime.observing.endpoint`."""
        self._lock_path = self.path / "lock"
        self._lock: BinaryIO | None = None

    def check(self) -> None:
        """Check that a data directory can be at this path.

        Raises:
            DataDirectoryError: the path is too long, or this user may not look into it.
        """
        check_length(self.journal_path)
        if why := obstacle(self.path):
            raise DataDirectoryError(
                f"the data directory {self.path} cannot be used: {why}; choose another --data-dir"
            )

    def open(self) -> Self:
        """Make the directory where missing and take its lock, until `close` or the end of the process.

        Raises:
            DataDirectoryError: another process has the lock, the path is too long, or the disk refused.
        """
        self.check()
        make_folder(self.path)
        self._tighten()
        make_folder(self.logs_path)
        _make_private(self.journal_path)
        with disk_errors("lock", self._lock_path):
            file = self._lock_path.open("a+b", buffering=0)
            try:
                self._take(file)
                file.truncate(0)
                file.write(str(os.getpid()).encode())
            except BaseException:
                file.close()
                raise
        self._lock = file
        return self

    def close(self) -> None:
        """Release the lock. Does nothing without one."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read_journal(self) -> JournalReader:
        """Open the journal read-only, without the lock: its node may be running.

        Raises:
            DataDirectoryError: there is none, or it is damaged or of a newer version.
        """
        self.check()
        if not holds_folder(self.path):
            raise DataDirectoryError(
                f"there is no data directory {self.path}; give the one the node was started with"
            )
        return JournalReader.read(self.journal_path)

    def read_blobs(self) -> BlobReader:
        """Return the blobs, read-only, without the lock."""
        return BlobReader(self.blobs_path)

    def __enter__(self) -> Self:
        return self if self._lock is not None else self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tighten(self) -> None:
        """Make an existing directory readable by this user only, unless it may hold files of others.

        Its files have that mode, too, but their names and dates also say what the node does.
        """
        if os.name != "posix":
            return
        try:
            if not stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                return
            if all(map(self._is_own, self.path.iterdir())):
                self.path.chmod(0o700)
                for folder in (self.blobs_path, self.logs_path):
                    if folder.is_dir():
                        folder.chmod(0o700)
                return
        except OSError as error:
            logger.warning("other users can read the folder %s: %s", self.path, error.strerror)
            return
        logger.warning(
            "other users can read the folder %s, which holds more than this node's data: keep the node's "
            "files in a folder of their own with --data-dir",
            self.path,
        )

    def _is_own(self, path: Path) -> bool:
        """Whether *path* in this directory was made by a node; files under way begin with a dot."""
        return path.name in OWN_NAMES or path.name.startswith((self.journal_path.name, "."))

    def _take(self, file: BinaryIO) -> None:
        if not try_lock(file):
            file.seek(0)
            holder = file.read(20).decode("ascii", "replace") or "unknown"
            raise DataDirectoryError(
                f"the data directory {self.path} is in use by process {holder}; one node runs per directory: "
                "end that one first, or give this node another --data-dir"
            )


def _make_private(journal: Path) -> None:
    """Make the journal readable by this user only, also in a folder that is open to others.

    The folders of models and logs are created for this user only.
    """
    with contextlib.suppress(OSError):  # the next one to open it reports what the disk refuses
        os.close(os.open(journal, os.O_RDWR | os.O_CREAT, 0o600))
    for path in (journal, journal.with_name(f"{journal.name}-wal"), journal.with_name(f"{journal.name}-shm")):
        with contextlib.suppress(OSError):
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o600)


def default_data_dir(name: str) -> Path:
    """Return the default data directory of this user's node *name*.

    Raises:
        UserError: this user has no home folder.
    """
    return default_place() / _UNSAFE.sub("_", name)


def default_place() -> Path:
    """Return the folder of this user's default data directories.

    Raises:
        UserError: this user has no home folder.
    """
    place = user_data("p2pfl")
    if place is None:
        raise UserError(
            "this user has no home folder (HOME is not set, and the system knows none), so there is no usual "
            "place for data directories: give --data-dir"
        )
    return place


def try_lock(file: BinaryIO) -> bool:
    """Lock *file* until it is closed or this process ends; return False where another one has the lock."""
    try:
        _lock_file(file)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return False
    return True


def _lock_file(file: BinaryIO) -> None:
    """Lock *file* for this open file alone, without waiting (OSError when it is held)."""
    if sys.platform == "win32":
        import msvcrt

        # Others cannot read a locked byte there: lock one far behind the process id.
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
