"""Read IDX files, the format of MNIST and similar data sets, into tensors; plain or compressed with gzip.

torchvision does not read the compressed files that Debian ships, and takes seconds to import. An IDX file is
two zero bytes, one byte for the element type, one byte for the number of dimensions, the dimensions as 4-byte
big-endian numbers, then the elements in row-major order (Y. LeCun, "The MNIST database of handwritten
digits").

Files are untrusted. The header must state the type and the shape that the task expects, before anything is
allocated; no more than the elements of this shape is decompressed.
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
"""Element type of pixels and labels. The format defines five others, which no data set here uses."""

CHUNK_BYTES = 1024 * 1024
"""Bytes decompressed in one step: so many are in memory twice."""


def read(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return the elements of the IDX file *path* as a uint8 tensor of *shape*.

    Raises:
        TaskError: the file cannot be read, is damaged, or has another element type or shape.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path, shape)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three
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
            "expected: it is of another data set."
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
            f"{' x '.join(map(str, shape))} are expected: it is of another data set, or only a part of one."
        )
    elements = bytearray(math.prod(shape))
    done = 0
    while done < len(elements):
        count = file.readinto(memoryview(elements)[done : done + CHUNK_BYTES])
        if not count:
            raise TaskError(f"{path} ends after {done} of {len(elements)} elements; get it again.")
        done += count
    if file.read(1):  # this read also makes gzip verify its checksum
        raise TaskError(f"{path} has more bytes than its {len(elements)} elements; get it again.")
    return torch.frombuffer(elements, dtype=torch.uint8).reshape(shape)
