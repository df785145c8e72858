"""The schema of a model file, known before a byte of the file arrives.

A model travels as a safetensors file in one canonical layout. So equal tensors give equal bytes and an equal
digest on every device, and the length of a file follows from its schema: a receiver knows the only acceptable
length of a blob before it allocates anything. Record 0 names the header by its digest (`Layout`), so it is
short however many tensors there are. This module has the schema, the canonical header, and the parser for
headers that peers send. It is no part of `learning`, because the node process checks blobs and must not
import torch.

Canonical layout: an 8-byte little-endian header length; a JSON header without spaces, tensors in file order,
padded with spaces to a multiple of 8; then the tensors, contiguous, little-endian, without gaps, ordered by
falling element size, then by name, so that every tensor is aligned. If there are buffers, the header begins
with `__metadata__`, whose "buffers" is the JSON list of their names: strategies treat them differently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

import msgspec
from blake3 import blake3

from p2pfl.errors import BlobError

DTYPE_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one element of each safetensors dtype."""

FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
"""The dtypes of floating-point elements."""

MAX_HEADER_BYTES = 4 * 1024 * 1024
"""A longer header is refused unread; that of ResNet-152 has 90 KB."""

MAX_DIMENSIONS = 8
"""More dimensions than any layer in torch uses."""

SCHEMAS_REMEMBERED = 4
"""A process uses one or two schemas, and needs the header of one for every file that it reads or writes."""


class TensorSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Name, safetensors dtype and shape of one tensor of a state dict."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_buffer: bool = False
    """Whether it is no parameter, but a buffer such as a running mean, which no gradient changes."""

    @property
    def elements(self) -> int:
        """The number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of the tensor in a file."""
        return self.elements * DTYPE_BYTES[self.dtype]

    def __str__(self) -> str:
        kind = " (buffer)" if self.is_buffer else ""
        return f"{self.name} {self.dtype}[{','.join(map(str, self.shape))}]{kind}"


Schema = tuple[TensorSpec, ...]
"""The tensors of a model in file order (see `canonical`)."""


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Header digest and lengths of all model files of a run: a few bytes, however many tensors there are.

    The schema is in the header, so it can be read from any model file of the run.
    """

    header: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """BLAKE3 digest of the first `header_bytes` of every file."""
    header_bytes: Annotated[int, msgspec.Meta(ge=8, le=8 + MAX_HEADER_BYTES)]
    file_bytes: Annotated[int, msgspec.Meta(ge=8, le=2**53)]
    """The length of every file."""


def canonical(tensors: Iterable[TensorSpec]) -> Schema:
    """Return *tensors* in file order.

    Raises:
        BlobError: an unknown dtype, a bad shape, or a name used twice.
    """
    specs = tuple(tensors)
    names = set()
    for spec in specs:
        if spec.dtype not in DTYPE_BYTES:
            raise BlobError(
                f"tensor {spec.name!r} has dtype {spec.dtype!r}, which is none of {', '.join(DTYPE_BYTES)}"
            )
        if len(spec.shape) > MAX_DIMENSIONS or any(size < 0 for size in spec.shape):
            raise BlobError(f"tensor {spec.name!r} has the impossible shape {list(spec.shape)}")
        if spec.name in names or spec.name == "__metadata__":
            raise BlobError(f"the tensor name {spec.name!r} is used twice or reserved")
        names.add(spec.name)
    return tuple(sorted(specs, key=lambda spec: (-DTYPE_BYTES[spec.dtype], spec.name)))


@lru_cache(maxsize=SCHEMAS_REMEMBERED)
def header(schema: Schema) -> bytes:
    """Return the first bytes of every file of *schema*: length, JSON, padding."""
    fields: dict[str, object] = {}
    if buffers := [spec.name for spec in schema if spec.is_buffer]:
        fields["__metadata__"] = {"buffers": json.dumps(buffers, separators=(",", ":"), ensure_ascii=False)}
    offset = 0
    for spec in schema:
        fields[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.nbytes],
        }
        offset += spec.nbytes
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@lru_cache(maxsize=SCHEMAS_REMEMBERED)
def file_bytes(schema: Schema) -> int:
    """Return the length in bytes of every file of *schema*."""
    return len(header(schema)) + sum(spec.nbytes for spec in schema)


@lru_cache(maxsize=SCHEMAS_REMEMBERED)
def layout_of(schema: Schema) -> Layout:
    """Return the layout of every file of *schema*."""
    start = header(schema)
    return Layout(blake3(start).hexdigest(), len(start), file_bytes(schema))


@lru_cache(maxsize=SCHEMAS_REMEMBERED)
def schema_in(start: bytes, layout: Layout) -> Schema:
    """Read the schema of *layout* from *start*, the first `header_bytes` of one of its files.

    Raises:
        BlobError: the bytes have another digest, or give another layout.
    """
    if blake3(start).hexdigest() != layout.header:
        raise BlobError("the file does not begin with the header of this run's model")
    schema = parse_header(start)
    if layout_of(schema) != layout:
        raise BlobError("the file has another length by its header than record 0 of its run gives it")
    return schema


def parse_header(start: bytes) -> Schema:
    """Read the schema from *start*, the first bytes of a canonical file (at least its whole header).

    Raises:
        BlobError: not a safetensors header, or one that is not in the canonical layout.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > MAX_HEADER_BYTES or len(start) < 8 + length:
        raise BlobError(
            f"the file has no complete safetensors header ({len(start)} bytes, header length {length})"
        )
    try:
        fields = json.loads(start[8 : 8 + length])
        buffers = set(json.loads(fields.pop("__metadata__", {}).get("buffers", "[]")))
        specs = [
            TensorSpec(name, field["dtype"], tuple(field["shape"]), name in buffers)
            for name, field in fields.items()
        ]
        schema = canonical(msgspec.convert(msgspec.to_builtins(spec), TensorSpec) for spec in specs)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        msgspec.ValidationError,
    ) as error:
        raise BlobError(f"the file's safetensors header cannot be read: {error}") from error
    if header(schema) != start[: 8 + length]:
        raise BlobError(
            "the file's safetensors header is not in the canonical layout (order, gaps or padding differ)"
        )
    return schema


class FrozenTensors(msgspec.Struct, frozen=True):
    """The canonical file of the frozen tensors of a model."""

    digest: str
    """BLAKE3 in hex."""
    layout: Layout


_DIGITS = frozenset("0123456789abcdef")


def frozen_mark(frozen: FrozenTensors) -> TensorSpec:
    """Return the empty tensor that stands for *frozen* in the schema of a model."""
    layout = frozen.layout
    shape = (0, layout.header_bytes, layout.file_bytes)
    return TensorSpec(f"frozen:{frozen.digest}:{layout.header}", "U8", shape, is_buffer=True)


def is_mark(spec: TensorSpec) -> bool:
    """Return whether *spec* is the mark of frozen tensors."""
    kind, *digests = spec.name.split(":")
    are_digests = len(digests) == 2 and all(len(one) == 64 and {*one} <= _DIGITS for one in digests)
    return kind == "frozen" and are_digests and len(spec.shape) == 3 and spec.shape[0] == 0


def frozen_in(schema: Schema) -> FrozenTensors | None:
    """Return the frozen tensors that *schema* marks; None without a mark."""
    for spec in filter(is_mark, schema):
        _, digest, start = spec.name.split(":")
        return FrozenTensors(digest, Layout(start, spec.shape[1], spec.shape[2]))
    return None


def frozen_to_take(mine: Schema, theirs: Schema) -> FrozenTensors | None:
    """Return the frozen tensors of *theirs* if only their values are other ones than those of *mine*.

    Their file then has the layout of this device's own, so its length is known from what is here.
    """
    here, there = frozen_in(mine), frozen_in(theirs)
    if here is None or there is None or here.layout != there.layout or here.digest == there.digest:
        return None
    rest = [[spec for spec in schema if not is_mark(spec)] for schema in (mine, theirs)]
    return there if rest[0] == rest[1] else None


def first_difference(mine: Schema, theirs: Schema) -> str | None:
    """Describe the first tensor in which two schemas differ, as half a sentence; None when they are equal."""
    if mine == theirs:
        return None
    own = {spec.name: spec for spec in mine if not is_mark(spec)}
    for spec in theirs:
        if is_mark(spec):
            continue
        match = own.pop(spec.name, None)
        if match is None:
            return f"{spec} is missing here"
        if match != spec:
            return f"{spec} there is {match} here"
    for spec in own.values():
        return f"{spec} is missing there"
    there, here = frozen_in(theirs), frozen_in(mine)
    if there != here:
        sizes = [f"{one.layout.file_bytes:,} bytes" if one is not None else "none" for one in (there, here)]
        if sizes[0] == sizes[1]:
            return "the frozen parameters differ in their values, names or shapes"
        return f"the frozen parameters differ: {sizes[0]} there, {sizes[1]} here"
    return None
