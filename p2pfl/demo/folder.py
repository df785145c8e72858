"""The folder with a demo's files: one the user named, or a temporary one that is removed at the end.

A demo that is killed cannot remove its folder. Its nodes end with it (`processes`), and the next demo removes
the folder, because no process holds its lock or those of its data directories.
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
"""Prefix of the temporary folder's name."""

LOCK_FILE = "demo.lock"
"""Locked by the demo that uses the folder."""

SAVED_FOLDER = "p2pfl-demo-saved"
"""Folder for models that the user saves from the terminal UI."""


@contextlib.contextmanager
def folder_for(directory: Path | None) -> Iterator[Path]:
    """Return the folder of a demo: *directory*, or without it a temporary one that is removed afterwards."""
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
    """Return the folder for saved models: in the current folder, or else in the user's application data."""
    with contextlib.suppress(UserError):
        here = full(Path())
        if os.access(here, os.W_OK):
            return here / SAVED_FOLDER
    return user_data(SAVED_FOLDER) or Path(tempfile.gettempdir()) / SAVED_FOLDER


def _user(status: os.stat_result) -> int:
    """Return this user's id; Windows has none, so there it is the one in *status*."""
    return os.getuid() if hasattr(os, "getuid") else status.st_uid


def _is_abandoned(folder: Path) -> bool:
    """Return whether *folder* is a demo's and neither that demo nor any of its nodes runs."""
    locks = [folder / LOCK_FILE, *folder.glob("*/lock")]
    return (folder / LOCK_FILE).is_file() and all(_is_free(path) for path in locks)


def _is_free(path: Path) -> bool:
    with path.open("r+b", buffering=0) as file:
        return try_lock(file)
