"""Finds out whether SQLite's write-ahead log has lost commits that were flushed.

After a crash SQLite takes from the log (the `-wal` file) the intact frames up to the first broken one, and
drops the rest as a write torn by a power cut. But a torn write belongs to the one transaction that was not
flushed, and nothing comes after it. Where a complete transaction and more come after a broken frame, a bit
was lost, and with it votes that other nodes know of. (The format: https://sqlite.org/walformat.html.)
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_HEADER = struct.Struct(">8I")
"""Magic, version, page size, checkpoint, two salts, two checksums."""

_FRAME = struct.Struct(">6I")
"""Page, pages of the database after a commit (else 0), two salts, two checksums."""

_MAGIC = 0x377F0682
"""The lowest bit tells whether checksums read big-endian words."""

_WORD = 2**32 - 1


def has_lost_commits(path: Path) -> bool:
    """Whether the log at *path* has a broken frame with a complete transaction, and more, after it.

    Call it before SQLite opens the database.

    Raises:
        OSError: the disk refused.
    """
    try:
        with path.open("rb") as file:
            return _has_lost_commits(file)
    except FileNotFoundError:
        return False


def _has_lost_commits(file: BinaryIO) -> bool:
    first = file.read(_HEADER.size)
    if len(first) < _HEADER.size or not any(first):
        return False
    magic, _, page_bytes, _, *salts, one, two = _HEADER.unpack(first)
    order = ">" if magic & 1 else "<"
    sums = _checksum(first[:24], (0, 0), order)
    if magic & ~1 != _MAGIC or sums != (one, two):
        return bool(file.read(1))
    is_intact, is_behind_commit = True, False
    while len(frame := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        _, pages, *its_salts, one, two = _FRAME.unpack_from(frame)
        if is_intact:
            sums = _checksum(frame[_FRAME.size :], _checksum(frame[:8], sums, order), order)
            is_intact = its_salts == salts and sums == (one, two)
        if not is_intact and its_salts == salts:  # frames with other salts are of an earlier, overwritten log
            if is_behind_commit:
                return True
            is_behind_commit = pages > 0
    return False


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & _WORD
        two = (two + odd + one) & _WORD
    return one, two
