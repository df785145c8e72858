"""Puts the tensors of several safetensors files into one, without torch.

A model file of a run has the exchanged tensors only. An exported model has those that stay on the device too:
the frozen ones and the personal ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from p2pfl.errors import DataDirectoryError
from p2pfl.schema import DTYPE_BYTES, MAX_HEADER_BYTES, TensorSpec, is_mark

CHUNK_BYTES = 1024 * 1024
"""Bytes copied at a time."""


class TensorFile(NamedTuple):
    """A safetensors file, of which the tensors whose names begin with *prefix* are taken, without it."""

    path: Path
    prefix: str = ""


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: list[int]
    path: Path
    start: int
    """Offset in the file."""
    nbytes: int


def assemble(model: Path, others: Sequence[TensorFile], target: BinaryIO) -> None:
    """Write the tensors of *model* and *others* to *target*, with the metadata of *model*.

    The mark of frozen tensors is left out. The tensors come in the order of the canonical layout.

    Raises:
        DataDirectoryError: a file cannot be read.
    """
    metadata, tensors = _read(TensorFile(model))
    buffers = set(json.loads(metadata.get("buffers", "[]")))
    for other in others:
        theirs, more = _read(other)
        buffers |= set(json.loads(theirs.get("buffers", "[]")))
        tensors += more
    tensors = [one for one in tensors if not is_mark(TensorSpec(one.name, one.dtype, tuple(one.shape)))]
    tensors.sort(key=lambda one: (-DTYPE_BYTES[one.dtype], one.name))
    if named := [one.name for one in tensors if one.name in buffers]:
        metadata["buffers"] = json.dumps(named, separators=(",", ":"), ensure_ascii=False)
    else:
        metadata.pop("buffers", None)
    fields: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for one in tensors:
        fields[one.name] = {
            "dtype": one.dtype,
            "shape": one.shape,
            "data_offsets": [offset, offset + one.nbytes],
        }
        offset += one.nbytes
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    target.write(len(text).to_bytes(8, "little") + text)
    for one in tensors:
        _copy(one, target)


def is_damaged(path: Path) -> bool:
    """Return whether the bytes of the file *path* are not those of the digest that is its name."""
    hasher = blake3()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            hasher.update(piece)
    return hasher.hexdigest() != path.name


def _read(source: TensorFile) -> tuple[dict[str, str], list[_Tensor]]:
    """Return the metadata and the tensors of *source*."""
    path, prefix = source
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            fields = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
        metadata = fields.pop("__metadata__", None) or {}
        tensors = [
            _Tensor(
                name.removeprefix(prefix),
                field["dtype"],
                field["shape"],
                path,
                8 + length + field["data_offsets"][0],
                field["data_offsets"][1] - field["data_offsets"][0],
            )
            for name, field in fields.items()
            if name.startswith(prefix)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataDirectoryError(
            f"the file {path} cannot be read ({error}); export the model on another node"
        ) from error
    return metadata, tensors


def _copy(tensor: _Tensor, target: BinaryIO) -> None:
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        left = tensor.nbytes
        while left and (piece := file.read(min(left, CHUNK_BYTES))):
            target.write(piece)
            left -= len(piece)
    if left:
        raise DataDirectoryError(f"the file {tensor.path} ends inside the tensor {tensor.name}")
