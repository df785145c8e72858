"""State dicts as canonical model files, and back.

The layout is `p2pfl.schema`'s. The safetensors library reads these files, but neither writes nor maps them
here: its writer copies the whole model, and its torch reader maps files shared, so that a slip could write
into a committed model. A file is written from the tensors' own memory and hashed on the way; it is read
through a private mapping.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.schema import (
    MAX_HEADER_BYTES,
    Schema,
    TensorSpec,
    canonical,
    file_bytes,
    first_difference,
    header,
    parse_header,
)

TORCH_DTYPES = {
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F32": torch.float32,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By the names of `p2pfl.schema.DTYPE_BYTES`."""

_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

WRITE_BYTES = 4 * 1024 * 1024
"""Hashed and written at a time, so that the second finds in the cache what the first has read."""


SMALL_BYTES = 64 * 1024
"""Tensors up to here are not worth giving back."""


def schema_of(module: nn.Module) -> Schema:
    """Return the schema of *module*'s state dict: parameters and buffers.

    Raises:
        TaskError: something in it is no tensor, or of a kind no file can hold.
    """
    specs = []
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in _NAMES:
            what = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TaskError(f"The model's state {name!r} is {what}, which a model file cannot hold.")
        specs.append(TensorSpec(name, _NAMES[value.dtype], tuple(value.shape)))
    try:
        return canonical(specs)
    except BlobError as error:
        raise TaskError(f"The model cannot be written to a file: {error}.") from error


def save(path: Path, module: nn.Module, *, durable: bool = True) -> str:
    """Write *module*'s state dict to *path*; return the file's digest.

    Raises:
        TaskError: see `schema_of`.
        WorkerError: the disk refuses it.
    """
    schema, state = schema_of(module), module.state_dict()
    return write(path, schema, (state[spec.name] for spec in schema), durable=durable)


def write(path: Path, schema: Schema, pieces: Iterable[Tensor], *, durable: bool = True) -> str:
    """Write a model file of *schema* to *path*; return its BLAKE3 digest in hex.

    *pieces*, flattened one after another, are the tensors in the schema's order; a tensor may come in
    several, so that nobody has to hold all of it converted. If it is to be *durable*, the file is flushed to
    disk before this returns; whoever renames it into place syncs the folder.

    Raises:
        WorkerError: the disk refuses it.
    """
    first = header(schema)
    digest = blake3(first)
    try:
        with path.open("wb") as file:
            file.write(first)
            for piece in pieces:
                raw = _bytes_of(piece)
                for start in range(0, len(raw), WRITE_BYTES):
                    view = raw[start : start + WRITE_BYTES]
                    digest.update(view)
                    file.write(view)
            assert file.tell() == file_bytes(schema)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except OSError as error:
        raise WorkerError(
            f"The model file {path} cannot be written ({error.strerror}); free some space there."
        ) from error
    return digest.hexdigest()


def load_into(path: Path, module: nn.Module) -> None:
    """Copy the tensors of the model file *path* into *module*, in place.

    Raises:
        BlobError: it is no canonical model file, or not of this model.
    """
    schema, tensors = open_model(path)
    difference = first_difference(schema_of(module), schema)
    if difference is not None:
        raise BlobError(f"The model file {path} does not fit this device's model: {difference}.")
    for name, value in module.state_dict(keep_vars=True).items():
        if value.untyped_storage().nbytes() < value.nbytes:  # released
            value.data = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        value.data.copy_(tensors[name])


def release(module: nn.Module) -> None:
    """Give the memory of *module*'s state back, until the next `load_into` takes it again.

    Names, shapes and dtypes stay; values are any meanwhile.
    """
    for value in module.state_dict(keep_vars=True).values():
        if value.nbytes > SMALL_BYTES:
            value.data = value.data.new_zeros(1).expand(value.shape)


def read_schema(path: Path) -> Schema:
    """Return the schema of the model file *path*, whose length it fits.

    Raises:
        BlobError: it is no canonical model file, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            first = file.read(8)
            length = min(int.from_bytes(first, "little"), MAX_HEADER_BYTES)
            schema = parse_header(first + file.read(length))
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise BlobError(f"The model file {path} cannot be opened ({error.strerror}).") from error
    if size != file_bytes(schema):
        raise BlobError(f"The model file {path} has {size} bytes, not {file_bytes(schema)}.")
    return schema


def open_model(path: Path) -> tuple[Schema, dict[str, Tensor]]:
    """Return the schema and the tensors of a model file, without reading them: pages come in when touched.

    The mapping lasts as long as its tensors. It is private: writing to one changes memory, not the file.

    Raises:
        BlobError: it is no canonical model file, or cannot be opened.
    """
    schema = read_schema(path)
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors = {}
    offset = len(header(schema))
    for spec in schema:
        dtype = TORCH_DTYPES[spec.dtype]
        if spec.elements:
            flat = torch.frombuffer(mapping, dtype=dtype, count=spec.elements, offset=offset)
        else:
            flat = torch.empty(0, dtype=dtype)
        tensors[spec.name] = flat.reshape(spec.shape)
        offset += spec.nbytes
    return schema, tensors


def read_pieces(path: Path, elements: int) -> Iterator[Tensor]:
    """Yield the tensors of a model file in file order, flattened and cut after *elements* each.

    A piece is valid until the next one: all share one small buffer. Mapped pages would count as this
    process's memory, a whole model of them.

    Raises:
        BlobError: it is no canonical model file, or was cut short meanwhile.
    """
    schema = read_schema(path)
    with path.open("rb") as file:
        file.seek(len(header(schema)))
        for spec in schema:
            buffer = torch.empty(min(elements, spec.elements), dtype=TORCH_DTYPES[spec.dtype])
            for start in range(0, spec.elements, elements):
                piece = buffer[: spec.elements - start]
                raw = _bytes_of(piece)
                if file.readinto(raw) < len(raw):
                    raise BlobError(f"The model file {path} ends inside {spec}.")
                yield piece


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of *tensor*, without a copy where it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: memoryview = flat.view(torch.uint8).numpy().data
    return raw
