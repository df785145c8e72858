"""The disk of a data directory for metrics and probes: free space, and whether it can be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from p2pfl.store.directory import LEAST_FREE_BYTES


class DataPlace:
    """The data directory at *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def free_bytes(self) -> int | None:
        """Return the free space for this user; None if the system does not tell it."""
        try:
            return shutil.disk_usage(self._path).free
        except OSError:
            return None

    def fault(self) -> str:
        """Return why a node cannot go on writing there; empty if it can. Nothing is written for that."""
        if not os.access(self._path, os.W_OK):  # also for root, where the file system is read-only
            return f"the data directory {self._path} cannot be written to"
        free = self.free_bytes()
        if free is not None and free < LEAST_FREE_BYTES:
            return f"only {free / 1e6:.0f} MB are free for the data directory {self._path}"
        return ""
