"""Puts the tensors of several safetensors files into one, without torch.

A model file of a run has the exchanged tensors only. An exported model has those that stay on the device too:
the frozen ones and the personal ones. Adapters of linear layers (`p2pfl.learning.adapters`) are merged.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from blake3 import blake3

from p2pfl.errors import DataDirectoryError
from p2pfl.schema import DTYPE_BYTES, MAX_HEADER_BYTES, TensorSpec, is_mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""numpy's types of floating-point elements; it has no bfloat16."""

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
    adapters: tuple[_Tensor, _Tensor] | None = None
    """The matrices A and B of which the product is added."""


def assemble(
    model: Path, others: Sequence[TensorFile], target: BinaryIO, *, lora_scale: float | None = None
) -> None:
    """Write the tensors of *model* and *others* to *target*, with the metadata of *model*.

    Of tensors with the same name, that of the last file is taken. The mark of frozen tensors is left out. The
    tensors come in the order of the canonical layout. If the
    model has adapters, *lora_scale* is the factor of their product.

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
    tensors = list({one.name: one for one in tensors}.values())
    if lora_scale is not None:
        tensors = _without_adapters(tensors)
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
        if one.adapters is None:
            _copy(one, target)
        else:
            target.write(_merged(one, lora_scale or 0.0))


def _without_adapters(tensors: Sequence[_Tensor]) -> list[_Tensor]:
    """Return *tensors* with the names of a model without adapters; their products are still to be added."""
    named = {one.name: one for one in tensors}
    result = []
    for name, one in named.items():
        around, _, own = name.rpartition(".")
        layer = around.removesuffix(".base") if own in ("weight", "bias") else around
        adapters = (named.get(f"{layer}.lora_a"), named.get(f"{layer}.lora_b"))
        if None in adapters:
            result.append(one)
        elif around != layer:
            of_weight: Any = adapters if own == "weight" else None
            result.append(one._replace(name=f"{layer}.{own}", adapters=of_weight))
    return result


def _merged(weight: _Tensor, scale: float) -> bytes:
    """Return the elements of `W + scale * B A` (Hu et al. 2021, section 4.1), computed in float64."""
    import numpy as np

    assert weight.adapters is not None
    first, second = (_elements(one) for one in weight.adapters)
    result = _elements(weight) + scale * (second @ first)
    if weight.dtype != "BF16":
        return bytes(result.astype(_FLOATS[weight.dtype]).tobytes())
    bits = result.astype("<f4").view("<u4").astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)  # to nearest even
    return bytes(rounded.astype("<u2").tobytes())


def _elements(tensor: _Tensor) -> NDArray[Any]:
    """Return *tensor* in float64."""
    import numpy as np

    content = io.BytesIO()
    _copy(tensor, content)
    raw = np.frombuffer(content.getvalue(), _FLOATS[tensor.dtype])
    if tensor.dtype == "BF16":
        raw = (raw.astype("<u4") << np.uint32(16)).view("<f4")
    return raw.astype(np.float64).reshape(tensor.shape)


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
