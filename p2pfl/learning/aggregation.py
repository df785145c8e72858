"""Aggregation: reads all updates of a round at the same time, piece by piece, and writes the new model.

A piece has the same few thousand elements of each update. So the memory needed does not depend on the size of
the model, and each member adds only one piece. Files are read into reused buffers, because mapped pages would
count as memory of this process.

The strategy computes each piece of floating-point elements (`p2pfl.learning.strategies.elementwise`). This
module does what is the same for all strategies: the arithmetic is float64, the mean of integers is exact, and
where both an element of the result and that of the parent are not finite, the parent's is kept. So a mask of
infinities in the model is preserved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.strategies import integers
from p2pfl.learning.strategies.elementwise import Elementwise, weighted_mean
from p2pfl.learning.strategies.registry import strategy_of
from p2pfl.learning.weights import ModelFile, bytes_of, is_finite, runs, write
from p2pfl.schema import Schema, first_difference, header
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    UnreadableUpdate,
    WeightedUpdate,
)

PIECE_ELEMENTS = 32_000
"""Elements of one update in a piece. They fit into a processor's cache, and torch uses a single thread below
32,768 elements. The memory bandwidth is the limit: a second thread doubles the processor time and saves a
fifth of the duration, or nothing on one core."""


class _NotFiniteError(Exception):
    """The result has NaN or infinity where the parent has a finite element."""


class _UnreadableError(Exception):
    """An update cannot be read."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(reason)
        self.digest = digest


def aggregate(job: AggregationJob, folder: Path, path: Path) -> AggregationResult:
    """Do *job*, whose blobs are in *folder*; write the new model to *path*, not flushed.

    There is no file at *path* unless the result is an `AggregatedModel`.

    Raises:
        BlobError: the parent cannot be read, or there are too many examples for the mean of integers.
        WorkerError: the new file cannot be written.
    """
    with ExitStack() as opened:
        parent = opened.enter_context(_Parent(folder / job.parent))
        try:
            updates = [opened.enter_context(_Update(one, folder)) for one in job.updates]
            schema = _common_schema(updates)
            pieces = _Pieces(strategy_of(job.spec), updates, parent, schema)
            return AggregatedModel(write(path, schema, pieces, durable=False))
        except _NotFiniteError:
            path.unlink()
            return NotFinite()
        except _UnreadableError as error:
            path.unlink(missing_ok=True)
            return UnreadableUpdate(error.digest, str(error))


class _Update:
    """The open file of an update."""

    def __init__(self, update: WeightedUpdate, folder: Path) -> None:
        self.digest = update.digest
        self.examples = update.examples
        try:
            self._file = ModelFile(folder / update.digest)
        except BlobError as error:
            raise _UnreadableError(update.digest, str(error)) from error
        self.schema = self._file.schema

    def __enter__(self) -> _Update:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fill(self, raw: memoryview) -> None:
        """Fill *raw* with the next bytes of the elements.

        Raises:
            _UnreadableError: the file has become shorter.
        """
        try:
            self._file.fill(raw)
        except BlobError as error:
            raise _UnreadableError(self.digest, str(error)) from error


def _common_schema(updates: Sequence[_Update]) -> Schema:
    """Return the schema of all *updates*.

    Raises:
        _UnreadableError: the schema of one differs from that of the first.
        BlobError: there are too many examples for the mean of integers.
    """
    schema = updates[0].schema
    for update in updates:
        difference = first_difference(schema, update.schema)
        if difference is not None:
            raise _UnreadableError(update.digest, f"it does not fit the other updates: {difference}")
    examples = sum(update.examples for update in updates)
    if examples > integers.MAX_WEIGHT and any(_is_integer(dtype) for dtype, _ in runs(schema)):
        raise BlobError(
            f"The updates have {examples} examples in all; a model with integers can be averaged over at "
            f"most {integers.MAX_WEIGHT}."
        )
    return schema


class _Pieces:
    """Yields the pieces of the new model in the order of its file. Each is valid until the next one."""

    def __init__(
        self, strategy: Elementwise, updates: Sequence[_Update], parent: _Parent, schema: Schema
    ) -> None:
        self._strategy = strategy
        self._updates = updates
        self._parent = parent
        self._schema = schema

    def __iter__(self) -> Iterator[Tensor]:
        offset = len(header(self._schema))
        for dtype, length in runs(self._schema):
            size = min(PIECE_ELEMENTS, length)
            combiner = self._combiner(dtype, size)
            for start in range(0, length, size):
                piece = combiner.next(min(size, length - start), offset)
                if dtype.is_floating_point and not is_finite(piece):
                    self._parent.take_over(piece, offset)
                offset += piece.nbytes
                yield piece

    def _combiner(self, dtype: torch.dtype, size: int) -> _Floats | _Booleans | _Integers:
        if dtype.is_floating_point:
            return _Floats(self._updates, dtype, size, self._strategy, self._parent)
        return (_Booleans if dtype == torch.bool else _Integers)(self._updates, dtype, size)


class _Buffer:
    """A buffer for one piece of one file, as bytes and as a tensor on the same memory."""

    def __init__(self, dtype: torch.dtype, size: int) -> None:
        self._values = torch.empty(size, dtype=dtype)
        self._raw = bytes_of(self._values)
        self._itemsize = dtype.itemsize

    def cut(self, count: int) -> tuple[Tensor, memoryview]:
        """Return the first *count* elements as a tensor and as bytes."""
        return self._values[:count], self._raw[: count * self._itemsize]


class _Rows:
    """The same piece of all updates in float64: see `UpdatePieces`."""

    def __init__(self, updates: Sequence[_Update], dtype: torch.dtype, size: int) -> None:
        self._updates = updates
        self._buffer = _Buffer(dtype, size)
        self._wide = torch.empty(size, dtype=torch.float64)
        self._all = torch.empty(0)
        """[updates, size] after the first call of `matrix`; before that, empty."""
        self.weights = torch.tensor([update.examples for update in updates], dtype=torch.float64)
        self._count = 0
        self._read = 0
        """Number of updates whose piece has been read."""
        self._is_whole = False
        """Whether the matrix has the piece of all updates."""

    def begin(self, count: int) -> None:
        """Begin with the next piece, of *count* elements."""
        self._count, self._read, self._is_whole = count, 0, False

    def __iter__(self) -> Iterator[Tensor]:
        if self._is_whole:
            yield from self._all[:, : self._count]
            return
        if self._read:
            raise RuntimeError("The updates can be iterated over once; call matrix() to do it several times.")
        narrow, raw = self._buffer.cut(self._count)
        wide = self._wide[: self._count]
        for update in self._updates:
            update.fill(raw)
            self._read += 1
            yield wide.copy_(narrow)

    def matrix(self) -> Tensor:
        """Return the piece of all updates as one tensor: [updates, count]."""
        if not len(self._all):
            self._all = torch.empty((len(self._updates), len(self._wide)), dtype=torch.float64)
        whole = self._all[:, : self._count]
        if not self._is_whole:
            for row, piece in zip(whole, self, strict=True):
                row.copy_(piece)
            self._is_whole = True
        return whole

    def narrowed(self, values: Tensor) -> Tensor:
        """Return *values* in the dtype of the updates.

        Raises:
            RuntimeError: the strategy has not read all updates.
        """
        if self._read != len(self._updates):
            raise RuntimeError("A strategy must read all updates.")
        narrow, _ = self._buffer.cut(self._count)
        return narrow.copy_(values)


class _Floats:
    """Combines pieces of floating-point elements with the strategy."""

    def __init__(
        self,
        updates: Sequence[_Update],
        dtype: torch.dtype,
        size: int,
        strategy: Elementwise,
        parent: _Parent,
    ) -> None:
        self._rows = _Rows(updates, dtype, size)
        self._strategy = strategy
        self._parent = parent
        self._before = _Buffer(dtype, size if strategy.needs_parent else 0)
        self._is_bounded = strategy.stays_between and dtype == torch.float64

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        rows = self._rows
        rows.begin(count)
        before, raw = self._before.cut(count)
        if raw:
            self._parent.read(offset, raw)
        if not self._is_bounded:
            values, _ = self._strategy.combine(before.double(), rows, rows.weights, None)
            return rows.narrowed(values)
        updates = rows.matrix().unbind()
        values, _ = self._strategy.combine(before, rows, rows.weights, None)
        return rows.narrowed(values.clamp(reduce(torch.minimum, updates), reduce(torch.maximum, updates)))


class _Booleans:
    """Combines pieces of booleans: True if at least half of the examples have it."""

    def __init__(self, updates: Sequence[_Update], dtype: torch.dtype, size: int) -> None:
        self._rows = _Rows(updates, dtype, size)

    def next(self, count: int, _offset: int) -> Tensor:
        """Return the next *count* elements of the new model."""
        self._rows.begin(count)
        return self._rows.narrowed(weighted_mean(self._rows, self._rows.weights) >= 0.5)


class _Integers:
    """Combines pieces of integers: their exact mean, weighted by examples and rounded."""

    def __init__(self, updates: Sequence[_Update], dtype: torch.dtype, size: int) -> None:
        self._updates = updates
        self._buffer = _Buffer(dtype, size)
        self._total = torch.empty((integers.limbs_of(dtype), size), dtype=torch.int64)
        self._examples = sum(update.examples for update in updates)

    def next(self, count: int, _offset: int) -> Tensor:
        """Return the next *count* elements of the new model."""
        total = self._total[:, :count].zero_()  # [limbs, count]
        piece, raw = self._buffer.cut(count)
        for update in self._updates:
            update.fill(raw)
            integers.add_limbs(total, piece, update.examples)
        return integers.divide(total, self._examples, piece)


class _Parent:
    """The model that the updates were trained from; its file is opened at the first read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: ModelFile | None = None

    def __enter__(self) -> _Parent:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, offset: int, raw: memoryview) -> None:
        """Fill *raw* with the file's bytes from *offset*.

        Raises:
            BlobError: the parent cannot be read.
        """
        if self._file is None:
            self._file = ModelFile(self._path)
        self._file.fill_from(offset, raw)

    def take_over(self, piece: Tensor, offset: int) -> None:
        """Replace each element of *piece*, at *offset* in the file, that is not finite by the parent's.

        Raises:
            _NotFiniteError: the parent's element is finite.
            BlobError: the parent cannot be read.
        """
        before = torch.empty_like(piece)
        self.read(offset, bytes_of(before))
        if (before.isfinite() & ~piece.isfinite()).any():
            raise _NotFiniteError
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[
            piece.itemsize
        ]  # copying as floats may change a NaN
        torch.where(piece.isfinite(), piece.view(bits), before.view(bits), out=piece.view(bits))


def _is_integer(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype == torch.bool)
