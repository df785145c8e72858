"""Model files in memory: the same bytes as those of nodes, without a disk.

A blob is read and written through the protocols of `p2pfl.learning.open_blobs`, so the aggregation is the
same function as that of a node. Where the blobs of a round are larger than `RAM_BYTES`, the rest is in a
temporary file: so memory does not grow with the number of clients.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from types import TracebackType
from typing import IO, Self

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import BlobError
from p2pfl.learning.open_blobs import Reader
from p2pfl.learning.weights import bytes_of, schema_of
from p2pfl.schema import MAX_HEADER_BYTES, SCHEMAS_REMEMBERED, Schema, file_bytes, header, parse_header

RAM_BYTES = 512 * 1024 * 1024
"""Bytes of blobs that stay in memory: 3,000 updates of the model of digits."""


_parse_header = lru_cache(maxsize=SCHEMAS_REMEMBERED)(parse_header)
"""Cached, since all blobs of a run have one of few headers."""


class MemoryReader:
    """A model file in memory, read like one on disk."""

    def __init__(self, raw: bytes, schema: Schema | None = None) -> None:
        """Read *raw*, whose schema is *schema*; None: it is read from the header.

        Raises:
            BlobError: the header is not canonical, or the length does not follow from it.
        """
        self.schema = schema if schema is not None else _parse_header(_start(raw))
        if len(raw) != file_bytes(self.schema):
            raise BlobError(f"The model has {len(raw)} bytes, not {file_bytes(self.schema)}.")
        self._raw = memoryview(raw)
        self._place = len(header(self.schema))

    def fill(self, raw: memoryview) -> None:
        """Read the next `len(raw)` bytes into *raw*.

        Raises:
            BlobError: there are fewer.
        """
        end = self._place + len(raw)
        if end > len(self._raw):
            raise BlobError("The model in memory ends too early.")
        raw[:] = self._raw[self._place : end]
        self._place = end

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Read `len(raw)` bytes from *offset* on into *raw*; the next read continues after them."""
        self._place = offset
        self.fill(raw)

    def close(self) -> None:
        """Do nothing: the bytes belong to others."""


class MemoryWriter:
    """A model file that is written to memory and hashed; a context manager like the writer of files."""

    def __init__(self, schema: Schema) -> None:
        self._raw = bytearray(header(schema))
        self._length = file_bytes(schema)
        self.blob = b""
        """The whole file, after `finish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def add(self, piece: Tensor) -> None:
        """Write the elements of *piece*."""
        self._raw += bytes_of(piece)

    def finish(self, *, durable: bool) -> str:  # noqa: ARG002  there is no disk
        """Complete the file and return its digest."""
        assert len(self._raw) == self._length
        self.blob = bytes(self._raw)
        return digest_of(self.blob)


def _start(blob: bytes) -> bytes:
    """Return the header of *blob*."""
    return blob[: 8 + min(int.from_bytes(blob[:8], "little"), MAX_HEADER_BYTES)]


def digest_of(blob: bytes) -> str:
    """Return the BLAKE3 digest in hex, which names a blob."""
    return blake3(blob).hexdigest()


def model_bytes(module: nn.Module, schema: Schema | None = None) -> bytes:
    """Return the model file of *module*; *schema* is that of the module if it is known."""
    schema = schema if schema is not None else schema_of(module)
    state = module.state_dict()
    # An entry of the schema without a tensor of its name is a mark, and has no bytes.
    return b"".join([header(schema), *(bytes_of(state[spec.name]) for spec in schema if spec.name in state)])


def load_bytes(blob: bytes, module: nn.Module, schema: Schema) -> None:
    """Copy the tensors of the model file *blob*, of *schema*, into *module*, in place."""
    reader = MemoryReader(blob, schema)
    state = module.state_dict(keep_vars=True)
    for spec in schema:
        if spec.name not in state:  # a mark, see `model_bytes`
            continue
        value = state[spec.name].detach()
        if value.is_contiguous() and value.device.type == "cpu":
            reader.fill(bytes_of(value))
        else:
            ours = torch.empty(value.shape, dtype=value.dtype)
            reader.fill(bytes_of(ours))
            value.copy_(ours)


class _SpilledReader:
    """A model file inside a larger file, which may be open in many readers at the same time."""

    def __init__(self, file: IO[bytes], start: int, length: int) -> None:
        self._file = file
        self._start = start
        self._length = length
        self._place = 0
        prefix = bytearray(8)
        self.fill(memoryview(prefix))
        rest = bytearray(int.from_bytes(prefix, "little"))
        self.fill(memoryview(rest))
        self.schema = _parse_header(bytes(prefix + rest))

    def fill(self, raw: memoryview) -> None:
        """Read the next `len(raw)` bytes into *raw*.

        Raises:
            BlobError: there are fewer.
        """
        if self._place + len(raw) > self._length:
            raise BlobError("The model in the temporary file ends too early.")
        self._file.seek(self._start + self._place)
        self._file.readinto(raw)  # type: ignore[attr-defined]  # every unbuffered file has it
        self._place += len(raw)

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Read `len(raw)` bytes from *offset* on into *raw*; the next read continues after them."""
        self._place = offset
        self.fill(raw)

    def close(self) -> None:
        """Do nothing: the file belongs to the shelf."""


class BlobShelf:
    """Blobs by digest: in memory, and in one temporary file where they are too large together."""

    def __init__(self, limit: int = RAM_BYTES) -> None:
        self._limit = limit
        self._ram: dict[str, bytes] = {}
        self._used = 0
        self._file: IO[bytes] | None = None
        self._end = 0
        self._spilled: dict[str, tuple[int, int]] = {}
        """Place and length in the file."""
        self._free: dict[int, list[int]] = {}
        """Places in the file that are free, by length: the blobs of a run have few different lengths."""

    @property
    def spilled_bytes(self) -> int:
        """Length of the temporary file."""
        return self._end

    def put(self, blob: bytes, digest: str) -> None:
        """Keep *blob* under *digest*."""
        if digest in self._ram or digest in self._spilled:
            return
        if self._used + len(blob) <= self._limit:
            self._ram[digest] = blob
            self._used += len(blob)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="p2pfl-simulation-", buffering=0)  # noqa: SIM115  until `close`
        free = self._free.get(len(blob))
        place = free.pop() if free else self._end
        self._end = max(self._end, place + len(blob))
        self._file.seek(place)
        rest = memoryview(blob)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._spilled[digest] = place, len(blob)

    def get(self, digest: str) -> bytes:
        """Return the blob *digest*.

        Raises:
            BlobError: there is none.
        """
        if digest in self._ram:
            return self._ram[digest]
        if digest not in self._spilled or self._file is None:
            raise BlobError(f"There is no blob {digest[:12]} here.")
        place, length = self._spilled[digest]
        self._file.seek(place)
        return self._file.read(length)

    def open(self, digest: str) -> Reader:
        """Open the blob *digest* for reading.

        Raises:
            BlobError: there is none.
        """
        if digest in self._spilled and self._file is not None:
            return _SpilledReader(self._file, *self._spilled[digest])
        return MemoryReader(self.get(digest))

    def drop(self, digest: str) -> None:
        """Forget the blob *digest* if it is here."""
        if digest in self._ram:
            self._used -= len(self._ram.pop(digest))
        if digest in self._spilled:
            place, length = self._spilled.pop(digest)
            self._free.setdefault(length, []).append(place)

    def clear(self) -> None:
        """Forget all blobs."""
        for digest in [*self._ram, *self._spilled]:
            self.drop(digest)

    def close(self) -> None:
        """Forget all blobs, and remove the file."""
        self.clear()
        if self._file is not None:
            self._file.close()
