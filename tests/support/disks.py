"""A small file system for a data directory that a test can fill up and make read-only."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE_BYTES = 16 * 1024 * 1024
"""Enough for a run with small models, and fast to fill."""

PIECE_BYTES = 4096


class SmallDisk:
    """A file system in memory, mounted at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Write a file until no byte is free."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(PIECE_BYTES))
        assert shutil.disk_usage(self.path).free == 0

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink()

    def set_writable(self, is_writable: bool) -> None:
        """Remount it writable or read-only; no process may have a file open for writing."""
        _mount("-o", f"remount,{'rw' if is_writable else 'ro'}", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount a small disk at *path*, a new folder; skip the test if this user may not mount."""
    if shutil.which("mount") is None:
        pytest.skip("there is no 'mount' command to make a small disk with")
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(path))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a small disk cannot be mounted here: {error.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True, text=True)
