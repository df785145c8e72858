"""A small disk of its own for a data directory: it can be filled up and made read-only, as real ones can."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE_BYTES = 16 * 1024 * 1024
"""Enough for a run of small models, and quickly filled."""

PIECE_BYTES = 4096


class SmallDisk:
    """A file system in memory, mounted at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(PIECE_BYTES))
        assert shutil.disk_usage(self.path).free == 0

    def free(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()

    def set_writable(self, is_writable: bool) -> None:
        """Mount it anew, read-only or not; no process may have a file open there to write."""
        _mount("-o", f"remount,{'rw' if is_writable else 'ro'}", str(self.path))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount one at *path*, which is made; skip the test where that is not allowed."""
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
