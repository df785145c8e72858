"""Aggregation: reads all updates of a round at the same time, piece by piece, and writes the new model.

A piece has the same few thousand elements of each update. So the memory needed does not depend on the size of
the model, and each member adds only one piece. Files are read into reused buffers, because mapped pages would
count as memory of this process.

The strategy computes each piece of floating-point elements (`p2pfl.learning.strategies.elementwise`). This
module does what is the same for all strategies: the arithmetic is float64, the mean of integers is exact, and
where both an element of the result and that of the parent are not finite, the parent's is kept. So a mask of
infinities in the model is preserved. If the strategy has a state, it is read and written beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import reduce
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from p2pfl.errors import BlobError
from p2pfl.learning.products import inner_products
from p2pfl.learning.slots import slot_dtype
from p2pfl.learning.strategies import integers
from p2pfl.learning.strategies.checks import (
    StrategyError,
    checked_choice,
    checked_result,
    checked_start,
)
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces, UpdateTable, weighted_mean
from p2pfl.learning.strategies.registry import OwnStrategies, strategy_of
from p2pfl.learning.weights import ModelFile, ModelWriter, Run, bytes_of, is_finite, runs
from p2pfl.schema import Schema, first_difference, header
from p2pfl.spec import ScriptTask, slot_schema
from p2pfl.strategy_specs import OwnStrategySpec
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    StrategyFailed,
    UnreadableUpdate,
    WeightedUpdate,
)

PIECE_ELEMENTS = 32_000
"""Elements of one update in a piece. They fit into a processor's cache, and torch uses a single thread below
32,768 elements. The memory bandwidth is the limit: a second thread doubles the processor time and saves a
fifth of the duration, or nothing on one core."""


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


class _NotFiniteError(Exception):
    """The result has NaN or infinity where the parent has a finite element."""


class _UnreadableError(Exception):
    """An update cannot be read."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(reason)
        self.digest = digest


def aggregate(
    job: AggregationJob,
    folder: Path,
    path: Path,
    state_path: Path | None = None,
    own: OwnStrategies | None = None,
) -> AggregationResult:
    """Do *job*, whose blobs are in *folder*; write the new model to *path*, not flushed.

    The new state of the strategy is written to *state_path*, which is needed only if it has one. There is no
    file at either path unless the result is an `AggregatedModel`. *own* makes a strategy of the user's own.

    Raises:
        BlobError: the parent or the state cannot be read, or there are too many examples for the mean of
            integers.
        WorkerError: a new file cannot be written.
    """
    with ExitStack() as opened:

        def write(schema: Schema, *, is_state: bool) -> Writer:
            target = state_path if is_state else path
            assert target is not None, "the strategy has a state, and there is no path for it"
            return opened.enter_context(ModelWriter(target, schema))

        result = aggregate_blobs(job, lambda digest: ModelFile(folder / digest), write, own)
    if not isinstance(result, AggregatedModel):
        for one in (path, state_path):
            if one is not None:
                with suppress(FileNotFoundError):
                    one.unlink()
    return result


def aggregate_blobs(
    job: AggregationJob,
    read: Callable[[str], Reader],
    write: Callable[..., Writer],
    own: OwnStrategies | None = None,
) -> AggregationResult:
    """Do *job*. *read* opens a blob; `write(schema, is_state=..)` begins the model or the state.

    *own* makes a strategy of the user's own, whose failure is a result too.

    Raises:
        BlobError: as in `aggregate`.
    """
    if not isinstance(job.spec.strategy, OwnStrategySpec):
        own = None
    with ExitStack() as opened:

        def open_update(update: WeightedUpdate, digest: str) -> _Update:
            one = _Update(update, digest, read)
            opened.callback(one.close)
            return one

        parent = _Parent(lambda: read(job.parent))
        opened.callback(parent.close)
        try:
            strategy = strategy_of(job.spec) if own is None else own.make(job.spec)
            updates = [open_update(one, one.digest) for one in job.updates]
            schema = _common_schema(updates)
            state = None
            if strategy.slots:
                slots = slot_schema(schema, strategy.slots)
                state = _State(strategy, read(job.state) if job.state else None, write(slots, is_state=True))
                opened.callback(state.close)
            table = _table(job, strategy, updates, parent, state)
            chosen = checked_choice(strategy.begin(table), len(updates))
            sources = _Sources(
                [updates[index] for index in chosen],
                [open_update(job.updates[index], job.updates[index].control) for index in chosen]
                if job.updates[0].control
                else [],
                parent,
                state,
            )
            model = write(schema, is_state=False)
            for piece in _Pieces(strategy, updates, sources, schema):
                model.add(piece)
            return AggregatedModel(
                model.finish(durable=False), state.writer.finish(durable=False) if state is not None else ""
            )
        except _NotFiniteError:
            return NotFinite() if own is None else StrategyFailed(own.explain_not_finite())
        except _UnreadableError as error:
            return UnreadableUpdate(error.digest, str(error))
        except (Exception, SystemExit) as error:
            reason = own.explain(error) if own is not None else ""
            if not reason:
                raise
            return StrategyFailed(reason)


def _table(
    job: AggregationJob,
    strategy: Elementwise,
    updates: Sequence[_Update],
    parent: _Parent,
    state: _State | None,
) -> UpdateTable:
    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def products() -> Tensor:
        measured = state.reader if state is not None and strategy.measures_state else None
        return inner_products(
            updates, parent.read, updates[0].schema, measured, slots=len(strategy.slots), piece=PIECE_ELEMENTS
        )

    training, is_script = job.spec.training, isinstance(job.spec.task, ScriptTask)
    return UpdateTable(
        examples=column([one.examples for one in job.updates]),
        steps=column([one.steps for one in job.updates]),
        losses=column([one.loss for one in job.updates]),
        members=job.members,
        momentum=training.momentum if training.optimizer == "sgd" and not is_script else 0.0,
        learning_rate=training.learning_rate,
        products=products,
    )


class _Update:
    """An open update, or its control."""

    def __init__(self, update: WeightedUpdate, digest: str, read: Callable[[str], Reader]) -> None:
        self.digest = update.digest
        """Digest of the update, also if this is its control."""
        self.examples = update.examples
        try:
            self._file = read(digest)
        except BlobError as error:
            raise _UnreadableError(update.digest, str(error)) from error
        self.schema = self._file.schema

    def close(self) -> None:
        """Close the file."""
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

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Fill *raw* with the bytes from *offset* on; the next read continues after them.

        Raises:
            _UnreadableError: the file has become shorter.
        """
        try:
            self._file.fill_from(offset, raw)
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
    if examples > integers.MAX_WEIGHT and any(_is_integer(run.dtype) for run in runs(schema)):
        raise BlobError(
            f"The updates have {examples} examples in all; a model with integers can be averaged over at "
            f"most {integers.MAX_WEIGHT}."
        )
    return schema


class _State:
    """The strategy's state: the old one, if there is one, and the new one that is written."""

    def __init__(self, strategy: Elementwise, reader: Reader | None, writer: Writer) -> None:
        self.reader = reader
        self.writer = writer
        self._initial = checked_start(strategy.initial_state(), strategy.slots).unsqueeze(1)  # [slots, 1]

    def close(self) -> None:
        """Close the old state."""
        if self.reader is not None:
            self.reader.close()

    def next(self, elements: int, dtype: torch.dtype) -> Tensor:
        """Return the old state of the next *elements* of a run of *dtype*: [slots, elements] float64."""
        if self.reader is None:
            return self._initial.expand(-1, elements).clone()
        return _read_piece(self.reader, elements, len(self._initial), dtype)

    def add(self, state: Tensor, dtype: torch.dtype) -> None:
        """Write the new *state*, [slots, elements], of the next elements of a run of *dtype*."""
        piece = state.t().contiguous().to(slot_dtype(dtype))
        if not is_finite(piece):
            raise _NotFiniteError
        self.writer.add(piece)


def _read_piece(reader: Reader | _Update, elements: int, slots: int, dtype: torch.dtype) -> Tensor:
    """Read the slots of the next *elements* of a run of *dtype*: [slots, elements] float64."""
    piece = torch.empty((elements, slots), dtype=slot_dtype(dtype))
    reader.fill(bytes_of(piece))
    return piece.double().t()


class _Sources:
    """What `_Floats` reads: the updates that count with their controls, the parent, and the state."""

    def __init__(
        self,
        updates: Sequence[_Update],
        controls: Sequence[_Update],
        parent: _Parent,
        state: _State | None,
    ) -> None:
        self.updates = updates
        self.controls = controls
        self.parent = parent
        self.state = state


class _Pieces:
    """Yields the pieces of the new model in the order of its file. Each is valid until the next one.

    *updates* are all updates of the round, of which integers are the mean; those of *sources* count for the
    strategy.
    """

    def __init__(
        self, strategy: Elementwise, updates: Sequence[_Update], sources: _Sources, schema: Schema
    ) -> None:
        self._strategy = strategy
        self._updates = updates
        self._sources = sources
        self._schema = schema

    def __iter__(self) -> Iterator[Tensor]:
        offset = len(header(self._schema))
        for run in runs(self._schema, by_kind=self._strategy.averages_buffers):
            size = min(PIECE_ELEMENTS, run.elements)
            combiner = self._combiner(run, size)
            for start in range(0, run.elements, PIECE_ELEMENTS):
                piece = combiner.next(min(size, run.elements - start), offset)
                if run.dtype.is_floating_point and not is_finite(piece):
                    self._sources.parent.take_over(piece, offset)
                offset += piece.nbytes
                yield piece

    def _combiner(self, run: Run, size: int) -> _Floats | _Booleans | _Integers:
        if run.dtype.is_floating_point:
            strategy = _BUFFER_MEAN if run.is_buffer and self._strategy.averages_buffers else self._strategy
            return _Floats(self._sources, run.dtype, size, strategy)
        return (_Booleans if run.dtype == torch.bool else _Integers)(self._updates, run.dtype, size)


class _BufferMean(Elementwise):
    """The mean of buffers, weighted by examples; the state is left as it is."""

    needs_parent = False
    stays_between = True

    def combine(
        self,
        parent: Tensor,  # noqa: ARG002  the mean does not depend on it
        updates: UpdatePieces,
        weights: Tensor,
        state: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        for _ in updates.controls():
            pass
        return weighted_mean(updates, weights), state


_BUFFER_MEAN = _BufferMean()


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
    """The same piece of all updates in float64: see `UpdatePieces`. *offset* is its place in the file."""

    def __init__(
        self, updates: Sequence[_Update], dtype: torch.dtype, size: int, controls: Sequence[_Update] = ()
    ) -> None:
        self._updates = updates
        self._controls = controls
        self._dtype = dtype
        self._buffer = _Buffer(dtype, size)
        self._wide = torch.empty(size, dtype=torch.float64)
        self._all = torch.empty(0)
        """[updates, size] after the first call of `matrix`; before that, empty."""
        self.weights = torch.tensor([update.examples for update in updates], dtype=torch.float64)
        self._count = 0
        self._offset = 0
        self._read = 0
        """Number of updates whose piece has been read."""
        self._read_controls = 0
        """Number of controls whose piece has been read."""
        self._is_whole = False
        """Whether the matrix has the piece of all updates."""

    def begin(self, count: int, offset: int) -> None:
        """Begin with the next piece, of *count* elements at *offset* in the file."""
        self._count, self._offset = count, offset
        self._read = self._read_controls = 0
        self._is_whole = False

    def __iter__(self) -> Iterator[Tensor]:
        if self._is_whole:
            yield from self._all[:, : self._count]
            return
        if self._read:
            raise RuntimeError("The updates can be iterated over once; call matrix() to do it several times.")
        narrow, raw = self._buffer.cut(self._count)
        wide = self._wide[: self._count]
        for update in self._updates:
            update.fill_from(self._offset, raw)
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

    def controls(self) -> Iterator[Tensor]:
        """Yield the piece of the control of each update: [slots, count]."""
        for control in self._controls:
            self._read_controls += 1
            yield _read_piece(control, self._count, control.schema[0].shape[1], self._dtype)

    def narrowed(self, values: Tensor) -> Tensor:
        """Return *values* in the dtype of the updates.

        Raises:
            StrategyError: the strategy has not read all updates and controls.
        """
        if self._read != len(self._updates) or self._read_controls != len(self._controls):
            raise StrategyError("combine", "must read all updates")
        narrow, _ = self._buffer.cut(self._count)
        return narrow.copy_(values)


class _Floats:
    """Combines pieces of floating-point elements with the strategy."""

    def __init__(self, sources: _Sources, dtype: torch.dtype, size: int, strategy: Elementwise) -> None:
        self._rows = _Rows(sources.updates, dtype, size, sources.controls)
        self._strategy = strategy
        self._parent = sources.parent
        self._state = sources.state
        self._dtype = dtype
        self._before = _Buffer(dtype, size if strategy.needs_parent else 0)
        self._is_bounded = strategy.stays_between and dtype == torch.float64

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        rows = self._rows
        rows.begin(count, offset)
        before, raw = self._before.cut(count)
        if raw:
            self._parent.read(offset, raw)
        state = self._state.next(count, self._dtype) if self._state is not None else None
        bounds = rows.matrix().unbind() if self._is_bounded else ()
        combined = self._strategy.combine(before.double(), rows, rows.weights, state)
        values, new = checked_result(combined, count, len(state) if state is not None else 0)
        if self._state is not None and new is not None:
            self._state.add(new, self._dtype)
        if bounds:
            values = values.clamp(reduce(torch.minimum, bounds), reduce(torch.maximum, bounds))
        return rows.narrowed(values)


class _Booleans:
    """Combines pieces of booleans: True if at least half of the examples have it."""

    def __init__(self, updates: Sequence[_Update], dtype: torch.dtype, size: int) -> None:
        self._rows = _Rows(updates, dtype, size)

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        self._rows.begin(count, offset)
        return self._rows.narrowed(weighted_mean(self._rows, self._rows.weights) >= 0.5)


class _Integers:
    """Combines pieces of integers: their exact mean, weighted by examples and rounded."""

    def __init__(self, updates: Sequence[_Update], dtype: torch.dtype, size: int) -> None:
        self._updates = updates
        self._buffer = _Buffer(dtype, size)
        self._total = torch.empty((integers.limbs_of(dtype), size), dtype=torch.int64)
        self._examples = sum(update.examples for update in updates)

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        total = self._total[:, :count].zero_()  # [limbs, count]
        piece, raw = self._buffer.cut(count)
        for update in self._updates:
            update.fill_from(offset, raw)
            integers.add_limbs(total, piece, update.examples)
        return integers.divide(total, self._examples, piece)


class _Parent:
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
