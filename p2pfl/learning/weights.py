"""State dicts as canonical model files, and back.

The layout is `p2pfl.schema`'s. The safetensors library reads these files, but neither writes nor maps them
here: its writer copies the whole model, and its torch reader maps files shared, so that a slip could write
into a committed model. A file is written from the tensors' own memory and hashed on the way, and read into
it: mapped pages would count as this process's memory, a whole model of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.schema import (
    MAX_HEADER_BYTES,
    SCHEMAS_REMEMBERED,
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

WRITE_BYTES = 256 * 1024
"""Hashed and written at a time, so that the second finds in the processor's cache what the first has read."""

SMALL_BYTES = 64 * 1024 * 1024
"""The state of a model up to here is not worth giving back: torch itself has eight times as much, and taking
it again costs 2 % of a round of 11 million parameters."""

_parse_header = lru_cache(maxsize=SCHEMAS_REMEMBERED)(parse_header)
"""All files of a run have one header."""


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
        schema = canonical(specs)
    except BlobError as error:
        raise TaskError(f"The model cannot be written to a file: {error}.") from error
    if (length := len(header(schema))) > MAX_HEADER_BYTES:
        raise TaskError(
            f"The model has {len(schema)} tensors, whose names and shapes take {length} bytes in a file; "
            f"at most {MAX_HEADER_BYTES} are possible: use fewer tensors, or shorter names."
        )
    return schema


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
                raw = bytes_of(piece)
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
    """Read the tensors of the model file *path* into *module*, in place.

    Raises:
        BlobError: it is no canonical model file, or see `read_module`.
    """
    with ModelFile(path) as file:
        read_module(file, module)


def read_module(file: ModelFile, module: nn.Module, digest: str = "") -> None:
    """Read the tensors of *file* into *module*, in place.

    Raises:
        BlobError: it is not of this model: the module is as before; or it was cut short while it was read, or
            a *digest* is given, the file is hashed, and its bytes have another one.
    """
    difference = first_difference(schema_of(module), file.schema)
    if difference is not None:
        raise BlobError(f"The model file {file.path} does not fit this device's model: {difference}.")
    state = module.state_dict(keep_vars=True)
    for spec in file.schema:
        value = state[spec.name]
        if value.untyped_storage().nbytes() < value.nbytes:  # released
            value.data = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        file.read_into(value.detach())
    if digest and file.digest() != digest:
        raise BlobError(f"The model file {file.path} is damaged: its bytes are not those it is named by.")


def open_blob(folders: Sequence[Path], digest: str, *, is_hashed: bool = False) -> ModelFile:
    """Open the model file named *digest* in the first of *folders* that has it.

    A file may be moved from a folder to a later one meanwhile.

    Raises:
        BlobError: none has it, or it is no canonical model file.
    """
    *others, last = folders
    for folder in others:
        with suppress(BlobError):
            return ModelFile(folder / digest, is_hashed=is_hashed)
    return ModelFile(last / digest, is_hashed=is_hashed)


def release(module: nn.Module) -> None:
    """Give the memory of *module*'s state back if it is much, until the next `load_into` takes it again.

    Names, shapes and dtypes stay; values are any meanwhile.
    """
    state = module.state_dict(keep_vars=True).values()
    if sum(value.nbytes for value in state) > SMALL_BYTES:
        for value in state:
            value.data = value.data.new_zeros(()).expand(value.shape)


class ModelFile:
    """A model file, read once from its first tensor to its last."""

    def __init__(self, path: Path, *, is_hashed: bool = False) -> None:
        """Open the model file *path*; only one that *is_hashed* can tell its `digest`.

        Raises:
            BlobError: it is no canonical model file, or cannot be opened.
        """
        self.path = path
        self._hasher = blake3() if is_hashed else None
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise BlobError(f"The model file {path} cannot be opened ({error.strerror}).") from error
        try:
            self.schema = self._read_schema()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    @property
    def identity(self) -> tuple[int, int, int]:
        """Which file it is, and which state of it: device, inode, time of the last change."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino, status.st_mtime_ns

    def digest(self) -> str:
        """Return the digest of the header and of what was read since, in hex."""
        assert self._hasher is not None
        return self._hasher.hexdigest()

    def read_into(self, tensor: Tensor) -> None:
        """Fill *tensor*, which has the dtype of the next elements, in its own order.

        Raises:
            BlobError: the file was cut short meanwhile.
        """
        if tensor.is_contiguous() and tensor.device.type == "cpu":
            self.fill(bytes_of(tensor))
        else:
            ours = torch.empty(tensor.shape, dtype=tensor.dtype)
            self.fill(bytes_of(ours))
            tensor.copy_(ours)

    def fill(self, raw: memoryview) -> None:
        """Fill *raw* with the next bytes of the elements.

        Raises:
            BlobError: the file was cut short meanwhile.
        """
        rest = raw
        while rest and (count := self._file.readinto(rest)):  # Linux reads 2 GiB at most
            if self._hasher is not None:
                self._hasher.update(rest[:count])
            rest = rest[count:]
        if rest:
            raise BlobError(f"The model file {self.path} ends inside {self._tensor_here()}.")

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Fill *raw* with the file's bytes from *offset* on; what is read next comes behind them.

        Raises:
            BlobError: the file was cut short meanwhile.
        """
        self._file.seek(offset)
        self.fill(raw)

    def _read_schema(self) -> Schema:
        path = self.path
        try:
            first = self._file.read(8)
            length = min(int.from_bytes(first, "little"), MAX_HEADER_BYTES)
            schema = _parse_header(first + self._file.read(length))
            size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise BlobError(f"The model file {path} cannot be opened ({error.strerror}).") from error
        if size != file_bytes(schema):
            raise BlobError(f"The model file {path} has {size} bytes, not {file_bytes(schema)}.")
        if self._hasher is not None:
            self._hasher.update(header(schema))
        return schema

    def _tensor_here(self) -> TensorSpec:
        here = self._file.tell()
        ends = accumulate((spec.nbytes for spec in self.schema), initial=len(header(self.schema)))
        next(ends)  # the header's
        return next(spec for spec, end in zip(self.schema, ends, strict=True) if here < end)


def runs(schema: Schema) -> list[tuple[torch.dtype, int]]:
    """Return the dtype and the number of elements of each run of neighbours of one dtype in a file.

    For arithmetic by element a run is one vector: models have many tensors that are small.
    """
    return [
        (TORCH_DTYPES[name], sum(spec.elements for spec in specs))
        for name, specs in groupby(schema, key=lambda spec: spec.dtype)
    ]


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of *tensor*, without a copy where it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: memoryview = flat.view(torch.uint8).numpy().data
    return raw
