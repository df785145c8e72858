"""BLAKE3 digests of existing files, with constant memory whatever their length."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from blake3 import blake3

PIECE_BYTES = 1024 * 1024
"""Bytes read and hashed at a time."""


def digest_of(path: Path) -> str:
    """Return the BLAKE3 digest of the bytes in *path*."""
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        for piece in pieces_of(file):
            hasher.update(piece)
    return hasher.hexdigest()


def pieces_of(file: FileIO) -> Iterator[memoryview]:
    """Read the rest of *file* piece by piece into one buffer."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    while count := file.readinto(buffer):
        yield buffer[:count]
