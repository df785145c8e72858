"""Write a module's state dict to a canonical model file, and read it back.

`p2pfl.schema` defines the format, a canonical form of safetensors. The safetensors library can read these
files but is not used here: its writer copies the whole model, and its torch reader maps files shared, so a
programming error could change a committed model. This module writes a file from the memory of the tensors and
hashes it at the same time. It reads a file into that memory instead of mapping it: mapped pages would count
as memory of this process, which is one more model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.learning.exchange import tensor_kinds
from p2pfl.schema import (
    MAX_HEADER_BYTES,
    SCHEMAS_REMEMBERED,
    FrozenTensors,
    Schema,
    TensorSpec,
    canonical,
    file_bytes,
    first_difference,
    frozen_mark,
    header,
    is_mark,
    layout_of,
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
"""torch dtypes by their names in `p2pfl.schema.DTYPE_BYTES`."""

_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

WRITE_BYTES = 256 * 1024
"""Bytes hashed and written in one step: the write finds in the processor's cache what the hash has read."""

SMALL_BYTES = 64 * 1024 * 1024
"""`release` keeps the memory of a state dict up to this size: torch itself uses eight times as much, and a
new allocation costs 2 % of a round with 11 million parameters."""

_parse_header = lru_cache(maxsize=SCHEMAS_REMEMBERED)(parse_header)
"""Cached, since all model files of a run have the same header."""


_frozen: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], FrozenTensors]] = WeakKeyDictionary()
"""The frozen tensors of modules, by their names: only `take_frozen` changes them."""


def schema_of(module: nn.Module, personal: Sequence[str] = ()) -> Schema:
    """Return the schema of what the devices exchange of *module*; *personal* are the patterns of the run.

    The frozen tensors of *module* are in it by a mark with their digest (`p2pfl.schema.frozen_mark`).

    Raises:
        TaskError: an entry is no tensor, or no file can hold its dtype; or the header is too long; or a
            pattern of *personal* is wrong (`tensor_kinds`).
    """
    state = module.state_dict()
    kinds = tensor_kinds(module, personal, state)
    marks = [frozen_mark(frozen_tensors(module, personal))] if kinds.frozen else []
    return _checked([*_specs(module, state, kinds.shared), *marks])


def state_schema(module: nn.Module) -> Schema:
    """Return the schema of *module*'s whole state dict, as an exported model has it.

    Raises:
        TaskError: as in `schema_of`.
    """
    state = module.state_dict()
    return _checked(_specs(module, state, state))


def frozen_schema(module: nn.Module, personal: Sequence[str] = ()) -> Schema:
    """Return the schema of the frozen tensors of *module*."""
    return _checked(_specs(module, module.state_dict(), tensor_kinds(module, personal).frozen))


def frozen_tensors(module: nn.Module, personal: Sequence[str] = ()) -> FrozenTensors:
    """Return digest and layout of the file that the frozen tensors of *module* make."""
    names = tensor_kinds(module, personal).frozen
    known = _frozen.setdefault(module, {})
    if names not in known:
        state, schema = module.state_dict(), frozen_schema(module, personal)
        digest = blake3(header(schema))
        for spec in schema:
            digest.update(bytes_of(state[spec.name]))
        known[names] = FrozenTensors(digest.hexdigest(), layout_of(schema))
    return known[names]


def take_frozen(path: Path, module: nn.Module, personal: Sequence[str] = ()) -> None:
    """Read the frozen tensors in the file *path*, named by its digest, into *module*.

    Raises:
        BlobError: the file has other tensors (*module* is unchanged), or is damaged.
    """
    schema = frozen_schema(module, personal)
    with ModelFile(path, is_hashed=True) as file:
        if file.schema != schema:
            raise BlobError(f"The file {path} has other tensors than the frozen ones of this model.")
        state = module.state_dict(keep_vars=True)
        for spec in schema:
            file.read_into(state[spec.name].detach())
        if file.digest() != path.name:
            raise BlobError(f"The file {path} is damaged: its digest differs from its name.")
    names = tensor_kinds(module, personal).frozen
    _frozen.setdefault(module, {})[names] = FrozenTensors(path.name, layout_of(schema))


def _specs(module: nn.Module, state: Mapping[str, Any], names: Iterable[str]) -> list[TensorSpec]:
    specs = []
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name in names:
        value = state[name]
        if not isinstance(value, Tensor) or value.dtype not in _NAMES:
            what = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TaskError(f"The model's state {name!r} is {what}, which a model file cannot hold.")
        specs.append(TensorSpec(name, _NAMES[value.dtype], tuple(value.shape), name not in parameters))
    return specs


def _checked(specs: Iterable[TensorSpec]) -> Schema:
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


def not_finite(module: nn.Module) -> str:
    """Return the name of a trainable parameter of *module* with NaN or infinity in it; empty without one."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not is_finite(parameter):
            return name
    return ""


def save(path: Path, module: nn.Module, personal: Sequence[str] = (), *, durable: bool = True) -> str:
    """Write what is exchanged of *module* to *path*; return the file's BLAKE3 digest in hex.

    Raises:
        TaskError: as in `schema_of`.
        WorkerError: the file cannot be written.
    """
    schema, state = schema_of(module, personal), module.state_dict()
    return write(path, schema, (state[spec.name] for spec in schema if not is_mark(spec)), durable=durable)


def write(path: Path, schema: Schema, pieces: Iterable[Tensor], *, durable: bool = True) -> str:
    """Write a model file of *schema* to *path*; return its BLAKE3 digest in hex.

    *pieces*, flattened and concatenated, are the tensors in the order of the schema. A tensor may be several
    pieces, so the caller does not need to hold a converted copy of all of it. If *durable*, the file is
    flushed to disk before this function returns; the caller renames it and flushes the folder.

    Raises:
        WorkerError: the file cannot be written.
    """
    with ModelWriter(path, schema) as writer:
        for piece in pieces:
            writer.add(piece)
        return writer.finish(durable=durable)


class ModelWriter:
    """Writes a model file piece by piece, and hashes it at the same time."""

    def __init__(self, path: Path, schema: Schema) -> None:
        """Create the file *path*; `add` the elements of *schema* in the order of the file, then `finish`.

        Raises:
            WorkerError: the file cannot be written; also raised by `add` and `finish`.
        """
        self._path = path
        self._length = file_bytes(schema)
        self._digest = blake3()
        self._written = 0
        with self._errors():
            self._file = path.open("wb")
        self._add(memoryview(header(schema)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, piece: Tensor) -> None:
        """Write the elements of *piece* in row-major order."""
        self._add(bytes_of(piece))

    def _add(self, raw: memoryview) -> None:
        with self._errors():
            for start in range(0, len(raw), WRITE_BYTES):
                view = raw[start : start + WRITE_BYTES]
                self._digest.update(view)
                self._file.write(view)
        self._written += len(raw)

    def finish(self, *, durable: bool) -> str:
        """Complete the file, flush it to disk if *durable*, and return its BLAKE3 digest in hex."""
        assert self._written == self._length
        with self._errors():
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkerError(
                f"The model file {self._path} cannot be written ({error.strerror}); free some space there."
            ) from error


def load_into(path: Path, module: nn.Module, digest: str = "", personal: Sequence[str] = ()) -> None:
    """Read the tensors of the model file *path* into *module*, in place; verify *digest* if it is not empty.

    All other tensors of *module*, personal and frozen, stay as they are.

    Raises:
        BlobError: the file is not a canonical model file of this schema (*module* is unchanged); or it was
            truncated while it was read, or its digest differs (*module* is partly or completely overwritten).
    """
    with ModelFile(path, is_hashed=bool(digest)) as file:
        difference = first_difference(schema_of(module, personal), file.schema)
        if difference is not None:
            raise BlobError(f"The model file {path} does not fit this device's model: {difference}.")
        state = module.state_dict(keep_vars=True)
        for spec in file.schema:
            if is_mark(spec):
                continue
            value = state[spec.name]
            if value.untyped_storage().nbytes() < value.nbytes:  # released
                value.data = torch.empty(value.shape, dtype=value.dtype, device=value.device)
            file.read_into(value.detach())
        if digest and file.digest() != digest:
            raise BlobError(f"The model file {path} is damaged: its digest differs from its name.")


def release(module: nn.Module, personal: Sequence[str] = ()) -> None:
    """Free the memory of what is exchanged of *module* if it is over `SMALL_BYTES`.

    `load_into` allocates it again. Names, shapes and dtypes stay; the values are undefined until then.
    """
    state = module.state_dict(keep_vars=True)
    shared = [state[name] for name in tensor_kinds(module, personal, state).shared]
    if sum(value.nbytes for value in shared) > SMALL_BYTES:
        for value in shared:
            value.data = value.data.new_zeros(()).expand(value.shape)


class ModelFile:
    """A model file opened for reading, usually once from its first tensor to its last."""

    def __init__(self, path: Path, *, is_hashed: bool = False) -> None:
        """Open the model file *path* and read its header; `digest` needs *is_hashed*.

        Raises:
            BlobError: it cannot be opened, or is no canonical model file.
        """
        self._path = path
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
        """Close the file."""
        self._file.close()

    def digest(self) -> str:
        """Return the BLAKE3 digest in hex of the header and of all bytes read since."""
        assert self._hasher is not None
        return self._hasher.hexdigest()

    def read_into(self, tensor: Tensor) -> None:
        """Read the next elements of the file into *tensor*, which has their dtype; it need not be contiguous.

        Raises:
            BlobError: the file was truncated after it was opened.
        """
        if tensor.is_contiguous() and tensor.device.type == "cpu":
            self.fill(bytes_of(tensor))
        else:
            ours = torch.empty(tensor.shape, dtype=tensor.dtype)
            self.fill(bytes_of(ours))
            tensor.copy_(ours)

    def fill(self, raw: memoryview) -> None:
        """Read the next `len(raw)` bytes of the file into *raw*.

        Raises:
            BlobError: the file was truncated after it was opened.
        """
        rest = raw
        while rest and (count := self._file.readinto(rest)):  # Linux reads 2 GiB at most
            if self._hasher is not None:
                self._hasher.update(rest[:count])
            rest = rest[count:]
        if rest:
            raise BlobError(f"The model file {self._path} ends inside {self._tensor_here()}.")

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Read `len(raw)` bytes of the file from *offset* on into *raw*; the next read continues after them.

        Raises:
            BlobError: the file was truncated after it was opened.
        """
        self._file.seek(offset)
        self.fill(raw)

    def _read_schema(self) -> Schema:
        path = self._path
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


class Run(NamedTuple):
    """Consecutive tensors in a file that arithmetic treats as one vector: models have many small tensors."""

    dtype: torch.dtype
    elements: int
    is_buffer: bool


def runs(schema: Schema, *, by_kind: bool = False) -> list[Run]:
    """Return each run of consecutive tensors with one dtype and some elements; *by_kind*, also one kind."""
    grouped = groupby(schema, key=lambda spec: (spec.dtype, by_kind and spec.is_buffer))
    found = (
        Run(TORCH_DTYPES[name], sum(spec.elements for spec in specs), is_buffer)
        for (name, is_buffer), specs in grouped
    )
    return [run for run in found if run.elements]


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of *tensor* in row-major order; no copy if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: memoryview = flat.view(torch.uint8).numpy().data
    return raw


def is_finite(tensor: Tensor) -> bool:
    """Return whether all elements of *tensor*, of a floating-point dtype of model files, are finite."""
    if not tensor.numel():
        return True
    # Both are NaN if any element is. Three times as fast as `isfinite`, and without copies of the tensor.
    least, greatest = tensor.detach().aminmax()
    return math.isfinite(least) and math.isfinite(greatest)
