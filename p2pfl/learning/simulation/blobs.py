"""Model files in memory: the same bytes as those of nodes, without a disk.

A blob is read and written through the protocols of `p2pfl.learning.aggregation`, so the aggregation is the
same function as that of a node. Where the blobs of a round are larger than `RAM_BYTES`, the rest is in files
of a temporary folder: so memory does not grow with the number of clients.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import BlobError
from p2pfl.learning.aggregation import Reader, Writer
from p2pfl.learning.weights import ModelFile, bytes_of, schema_of
from p2pfl.schema import Schema, file_bytes, header, parse_header

RAM_BYTES = 512 * 1024 * 1024
"""Bytes of blobs that stay in memory: 3,000 updates of the model of digits."""


class MemoryReader:
    """A model file in memory, read like one on disk."""

    def __init__(self, raw: bytes, schema: Schema | None = None) -> None:
        """Read *raw*, whose schema is *schema*; None: it is read from the header.

        Raises:
            BlobError: the header is not canonical, or the length does not follow from it.
        """
        self.schema = schema if schema is not None else parse_header(raw)
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


def digest_of(blob: bytes) -> str:
    """Return the BLAKE3 digest in hex, which names a blob."""
    return blake3(blob).hexdigest()


def model_bytes(module: nn.Module, schema: Schema | None = None) -> bytes:
    """Return the model file of *module*; *schema* is that of the module if it is known."""
    schema = schema if schema is not None else schema_of(module)
    state = module.state_dict()
    return b"".join([header(schema), *(bytes_of(state[spec.name]) for spec in schema)])


def load_bytes(blob: bytes, module: nn.Module, schema: Schema) -> None:
    """Copy the tensors of the model file *blob*, of *schema*, into *module*, in place."""
    reader = MemoryReader(blob, schema)
    state = module.state_dict(keep_vars=True)
    for spec in schema:
        value = state[spec.name].detach()
        if value.is_contiguous() and value.device.type == "cpu":
            reader.fill(bytes_of(value))
        else:
            ours = torch.empty(value.shape, dtype=value.dtype)
            reader.fill(bytes_of(ours))
            value.copy_(ours)


class BlobShelf:
    """The blobs of a round by digest: in memory, and in files where they are too large together."""

    def __init__(self, limit: int = RAM_BYTES) -> None:
        self._limit = limit
        self._ram: dict[str, bytes] = {}
        self._used = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, Path] = {}

    def put(self, blob: bytes, digest: str) -> None:
        """Keep *blob* under *digest*."""
        if digest in self._ram or digest in self._files:
            return
        if self._used + len(blob) <= self._limit:
            self._ram[digest] = blob
            self._used += len(blob)
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="p2pfl-simulation-", ignore_cleanup_errors=True)
        path = Path(self._folder.name, digest)
        path.write_bytes(blob)
        self._files[digest] = path

    def get(self, digest: str) -> bytes:
        """Return the blob *digest*.

        Raises:
            BlobError: there is none.
        """
        if digest in self._ram:
            return self._ram[digest]
        if digest not in self._files:
            raise BlobError(f"There is no blob {digest[:12]} here.")
        return self._files[digest].read_bytes()

    def open(self, digest: str) -> Reader:
        """Open the blob *digest* for reading.

        Raises:
            BlobError: there is none.
        """
        return ModelFile(self._files[digest]) if digest in self._files else MemoryReader(self.get(digest))

    def drop(self, digest: str) -> None:
        """Forget the blob *digest* if it is here."""
        if digest in self._ram:
            self._used -= len(self._ram.pop(digest))
        if (path := self._files.pop(digest, None)) is not None:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all blobs."""
        for digest in [*self._ram, *self._files]:
            self.drop(digest)

    def close(self) -> None:
        """Forget all blobs, and remove the folder."""
        self.clear()
        if self._folder is not None:
            self._folder.cleanup()


def begin_blob(schema: Schema) -> tuple[Writer, MemoryWriter]:
    """Return a writer of *schema* twice: as the aggregation takes it, and with its blob."""
    writer = MemoryWriter(schema)
    return writer, writer
