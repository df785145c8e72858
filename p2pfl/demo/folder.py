"""Where a demo keeps its files: in a folder the user named, or in one that does not outlive it.

A demo that is killed cannot remove its folder. Its nodes end with it (`processes`), and the next demo
removes the folder: nobody holds its lock, nor those of the data directories in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.paths import full, user_data
from p2pfl.store.directory import try_lock

PREFIX = "p2pfl-demo-"
"""Of the folder's name among temporary files."""

LOCK_FILE = "demo.lock"
"""Locked by the demo that uses the folder, as each node's data directory is by its node."""

SAVED_FOLDER = "p2pfl-demo-saved"
"""Where models go that somebody saves from the terminal UI."""


@contextlib.contextmanager
def folder_for(directory: Path | None) -> Iterator[Path]:
    """Give the folder of a demo: *directory* if the user named one, else one that is removed afterwards."""
    if directory is not None:
        yield full(directory)
        return
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / LOCK_FILE).open("a+b", buffering=0) as lock:
            try_lock(lock)
            yield folder


def remove_abandoned(place: Path) -> None:
    """Remove the folders in *place* of this user's demos that were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == _user(status) and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def save_place() -> Path:
    """Return where saved models outlive the demo: in the current folder, or among this user's data."""
    with contextlib.suppress(UserError):
        here = full(Path())
        if os.access(here, os.W_OK):
            return here / SAVED_FOLDER
    return user_data(SAVED_FOLDER) or Path(tempfile.gettempdir()) / SAVED_FOLDER


def _user(status: os.stat_result) -> int:
    """Return this user's number; on Windows, which has none, whatever *status* says."""
    return os.getuid() if hasattr(os, "getuid") else status.st_uid


def _is_abandoned(folder: Path) -> bool:
    """Return whether *folder* was a demo's and neither the demo nor a node of it runs."""
    locks = [folder / LOCK_FILE, *folder.glob("*/lock")]
    return (folder / LOCK_FILE).is_file() and all(_is_free(path) for path in locks)


def _is_free(path: Path) -> bool:
    with path.open("r+b", buffering=0) as file:
        return try_lock(file)
