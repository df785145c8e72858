"""IDX, the file format of MNIST and its like, plain or compressed by gzip, read into a tensor.

It stands apart because torchvision refuses the compressed files that Debian ships, and takes seconds to
import. The format is two zero bytes, a byte for the type of the elements, one for the number of dimensions,
the dimensions as 4-byte big-endian numbers, then the elements, the last dimension varying fastest (Y. LeCun,
"The MNIST database of handwritten digits"). Files come from anywhere, so a header is believed only where it
says what the task expects: nothing is allocated, and nothing decompressed, beyond that.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import TaskError

UNSIGNED_BYTE = 0x08
"""The type of elements that pixels and labels have; the format knows five others."""

CHUNK_BYTES = 1024 * 1024
"""Decompressed at a time: what lies in memory twice."""


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return the elements of the IDX file *path*, which must have this *shape*; uint8.

    Raises:
        TaskError: it cannot be read, is damaged, or holds something else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, shape)
    except (OSError, EOFError, zlib.error) as error:  # gzip's own errors are all three
        raise TaskError(
            f"The data file {path} cannot be read ({error}); get it again, or make it readable."
        ) from error


def _read(file: io.BufferedIOBase, path: Path, shape: tuple[int, ...]) -> Tensor:
    length = 4 + 4 * len(shape)
    header = file.read(length)
    if header[:2] != b"\0\0" or len(header) < 4:
        raise TaskError(f"{path} is no IDX file: it begins with {header[:4].hex(' ') or 'nothing'}.")
    if header[2] != UNSIGNED_BYTE:
        raise TaskError(
            f"{path} holds elements of the IDX type 0x{header[2]:02x} where unsigned bytes (0x08) are "
            "expected: it is another data set's."
        )
    if header[3] != len(shape):
        raise TaskError(
            f"{path} has {header[3]} dimensions where {len(shape)} are expected: it is another file."
        )
    if len(header) < length:
        raise TaskError(f"{path} ends inside its header; get it again.")
    found = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(4, length, 4))
    if found != shape:
        raise TaskError(
            f"{path} holds {' x '.join(map(str, found))} elements where "
            f"{' x '.join(map(str, shape))} are expected: it is another data set's, or only part of it."
        )
    elements = bytearray(math.prod(shape))
    done = 0
    while done < len(elements):
        count = file.readinto(memoryview(elements)[done : done + CHUNK_BYTES])
        if not count:
            raise TaskError(f"{path} ends after {done} of {len(elements)} elements; get it again.")
        done += count
    if file.read(1):  # at the end, gzip also compares its checksum
        raise TaskError(f"{path} goes on after its {len(elements)} elements; get it again.")
    return torch.frombuffer(elements, dtype=torch.uint8).reshape(shape)
