"""Checks the data directory: whether it can be written, what is in it, and how much space is left."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from p2pfl.doctor.finding import Finding, size_text
from p2pfl.errors import P2pflError, UserError
from p2pfl.identity.credentials import Credentials
from p2pfl.paths import is_there, quoted
from p2pfl.store.directory import LEAST_FREE_BYTES, DataDirectory, default_data_dir

LOW_DISK_BYTES = 2 * 1024**3
"""Less free space than this is reported: a node keeps about five files of a model's size, and logs."""


def check_disk(directory: Path | None, *, is_running: bool = False, free: int | None = None) -> Finding:
    """Check whether a node can write in *directory* and can read what is there.

    *is_running* says that a node is known to use it now. *free* is the free space in bytes, unless given the
    disk's.
    """
    if directory is None:
        return Finding("warn", "the data directory was not looked at: without a certificate it has no name")
    existing = directory
    try:
        place = DataDirectory(directory)
        place.check()
        existing = next(path for path in (place.path, *place.path.parents) if is_there(path))
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free if free is None else free
        if is_there(place.journal_path):
            with place.read_journal() as journal:
                if refused := journal.refused():
                    return Finding("FAIL", f"the data directory {place.path} cannot be used: {refused}")
            if not is_running:
                place.open().close()
    except OSError as error:
        return Finding(
            "FAIL",
            f"{existing} cannot be written to ({error.strerror or error})",
            "choose another --data-dir, or give this user the right to write there",
            (f"ls -ld {quoted(existing)}", f"df -h {quoted(existing)}"),
        )
    except P2pflError as error:
        return Finding("FAIL", str(error))
    if free < LOW_DISK_BYTES:
        return Finding(
            "FAIL" if free < LEAST_FREE_BYTES else "warn",
            f"only {size_text(free)} free for {place.path}",
            "make room, or choose another --data-dir",
            (f"df -h {quoted(existing)}",),
        )
    state = "in use by this device's node" if is_running else "ready"
    if not is_there(place.journal_path):
        state = "new: the node will make it"
    return Finding("ok", f"data directory {place.path}: {state}, {size_text(free)} free")


def data_dir_of(given: Path | None, credentials: Credentials | None) -> Path | Finding | None:
    """Return the node's data directory, or a finding why there is none; None if it is unknown."""
    if given is not None or credentials is None:
        return given
    try:
        return default_data_dir(credentials.name)
    except UserError as error:  # no home folder
        return Finding("FAIL", str(error))
