"""The open files of one aggregation: updates, their controls, the parent, and the strategy's state.

A file that cannot be read ends the aggregation with the digest of its update. Files are read into reused
buffers, because mapped pages would count as memory of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.slots import slot_dtype
from p2pfl.learning.strategies.checks import checked_start
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.weights import bytes_of, is_finite
from p2pfl.schema import Schema, header
from p2pfl.work import WeightedUpdate


class Reader(Protocol):
    """A model file, or the same bytes in memory, opened for reading."""

    schema: Schema

    def fill(self, raw: memoryview) -> None:
        """Read the next `len(raw)` bytes into *raw*."""

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Read `len(raw)` bytes from *offset* on into *raw*; the next read continues after them."""

    def close(self) -> None:
        """Close the file."""


class Writer(Protocol):
    """A model file, or the same bytes in memory, being written."""

    def add(self, piece: Tensor) -> None:
        """Write the elements of *piece*."""

    def finish(self, *, durable: bool) -> str:
        """Complete the file and return its digest."""


class NotFiniteError(Exception):
    """The result has NaN or infinity where the parent has a finite element."""


class UnreadableError(Exception):
    """An update cannot be read."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(reason)
        self.digest = digest


class OpenUpdate:
    """An open update, or its control."""

    def __init__(self, update: WeightedUpdate, digest: str, read: Callable[[str], Reader]) -> None:
        self.digest = update.digest
        """Digest of the update, also if this is its control."""
        self.examples = update.examples
        try:
            self._file = read(digest)
        except BlobError as error:
            raise UnreadableError(update.digest, str(error)) from error
        self.schema = self._file.schema

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def fill(self, raw: memoryview) -> None:
        """Fill *raw* with the next bytes of the elements.

        Raises:
            UnreadableError: the file has become shorter.
        """
        try:
            self._file.fill(raw)
        except BlobError as error:
            raise UnreadableError(self.digest, str(error)) from error

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Fill *raw* with the bytes from *offset* on; the next read continues after them.

        Raises:
            UnreadableError: the file has become shorter.
        """
        try:
            self._file.fill_from(offset, raw)
        except BlobError as error:
            raise UnreadableError(self.digest, str(error)) from error


class OpenParent:
    """The model that the updates were trained from; it is opened at the first read."""

    def __init__(self, opener: Callable[[], Reader]) -> None:
        self._open = opener
        self._file: Reader | None = None

    def close(self) -> None:
        """Close the file if it is open."""
        if self._file is not None:
            self._file.close()

    def read(self, offset: int, raw: memoryview) -> None:
        """Fill *raw* with the file's bytes from *offset*.

        Raises:
            BlobError: the parent cannot be read.
        """
        if self._file is None:
            self._file = self._open()
        self._file.fill_from(offset, raw)

    def take_over(self, piece: Tensor, offset: int) -> None:
        """Replace each element of *piece*, at *offset* in the file, that is not finite by the parent's.

        Raises:
            NotFiniteError: the parent's element is finite.
            BlobError: the parent cannot be read.
        """
        before = torch.empty_like(piece)
        self.read(offset, bytes_of(before))
        if (before.isfinite() & ~piece.isfinite()).any():
            raise NotFiniteError
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[
            piece.itemsize
        ]  # copying as floats may change a NaN
        torch.where(piece.isfinite(), piece.view(bits), before.view(bits), out=piece.view(bits))


class OpenState:
    """The strategy's state: the old one, if there is one, and the new one that is written."""

    def __init__(self, strategy: Elementwise, reader: Reader | None, writer: Writer) -> None:
        self.reader = reader
        self.writer = writer
        self._offset = 0 if reader is None else len(header(reader.schema))
        """Place of the next elements in the old state, which `products` may have read too."""
        self._initial = checked_start(strategy.initial_state(), strategy.slots).unsqueeze(1)  # [slots, 1]

    def close(self) -> None:
        """Close the old state."""
        if self.reader is not None:
            self.reader.close()

    def next(self, elements: int, dtype: torch.dtype) -> Tensor:
        """Return the old state of the next *elements* of a run of *dtype*: [slots, elements] float64."""
        if self.reader is None:
            return self._initial.expand(-1, elements).clone()
        piece = torch.empty((elements, len(self._initial)), dtype=slot_dtype(dtype))
        self.reader.fill_from(self._offset, bytes_of(piece))
        self._offset += piece.nbytes
        return piece.double().t()

    def add(self, state: Tensor, dtype: torch.dtype) -> None:
        """Write the new *state*, [slots, elements], of the next elements of a run of *dtype*."""
        piece = state.t().contiguous().to(slot_dtype(dtype))
        if not is_finite(piece):
            raise NotFiniteError
        self.writer.add(piece)


@dataclass(frozen=True)
class OpenBlobs:
    """The open files of one aggregation."""

    every: Sequence[OpenUpdate]
    """All updates of the round, of which integers, booleans and some buffers are combined."""
    chosen: Sequence[OpenUpdate]
    """The updates that count for the strategy."""
    controls: Sequence[OpenUpdate]
    """The controls of the chosen updates; empty if they have none."""
    parent: OpenParent
    state: OpenState | None
