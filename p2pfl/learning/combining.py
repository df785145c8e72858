"""Combines the pieces of all updates into the pieces of the new model.

A piece has the same few thousand elements of each update. So the memory needed does not depend on the size of
the model, and each member adds only one piece.

The strategy computes each piece of floating-point elements (`p2pfl.learning.strategies.elementwise`). This
module does what is the same for all strategies: the arithmetic is float64, the mean of integers is exact, and
where both an element of the result and that of the parent are not finite, the parent's is kept. So a mask of
infinities in the model is preserved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from p2pfl.learning.open_blobs import OpenBlobs, OpenUpdate
from p2pfl.learning.slots import slot_dtype
from p2pfl.learning.strategies import integers
from p2pfl.learning.strategies.checks import StrategyError, checked_result
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces, weighted_mean
from p2pfl.learning.strategies.median import Median
from p2pfl.learning.strategies.sorting_network import order_statistics
from p2pfl.learning.weights import Run, bytes_of, is_finite, runs
from p2pfl.schema import Schema, header


class Pieces:
    """Yields the pieces of the new model in the order of its file. Each is valid until the next one."""

    def __init__(self, strategy: Elementwise, blobs: OpenBlobs, schema: Schema, size: int) -> None:
        """Combine *blobs*, of which all models have the schema *schema*, in pieces of *size* elements."""
        self._strategy = strategy
        self._blobs = blobs
        self._schema = schema
        self._size = size

    def __iter__(self) -> Iterator[Tensor]:
        offset = len(header(self._schema))
        strategy = self._strategy
        for run in runs(self._schema, by_kind=strategy.averages_buffers or strategy.takes_median):
            size = min(self._size, run.elements)
            combiner = self._combiner(run, size)
            for start in range(0, run.elements, self._size):
                piece = combiner.next(min(size, run.elements - start), offset)
                if run.dtype.is_floating_point and not is_finite(piece):
                    self._blobs.parent.take_over(piece, offset)
                offset += piece.nbytes
                yield piece

    def _combiner(self, run: Run, size: int) -> _Floats | _Booleans | _Integers | _Medians:
        blobs, strategy = self._blobs, self._strategy
        if run.dtype.is_floating_point:
            if run.is_buffer and strategy.takes_median:
                return _Floats(replace(blobs, chosen=blobs.every), run.dtype, size, Median())
            if run.is_buffer and strategy.averages_buffers:
                strategy = _BufferMean()
            return _Floats(blobs, run.dtype, size, strategy)
        if strategy.takes_median:
            return _Medians(blobs.every, run.dtype, size)
        return (_Booleans if run.dtype == torch.bool else _Integers)(blobs.every, run.dtype, size)


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
        self,
        updates: Sequence[OpenUpdate],
        dtype: torch.dtype,
        size: int,
        controls: Sequence[OpenUpdate] = (),
    ) -> None:
        self._updates = updates
        self._controls = controls
        self._dtype = dtype
        self._buffer = _Buffer(dtype, size)
        self._wide = torch.empty(size, dtype=torch.float64)
        self._all = torch.empty(0)
        """[updates, size] after the first call of `matrix`; before that, empty."""
        self._exact: Tensor | None = None
        """[updates, size] after the first call of `sortable`."""
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
        self._refuse_twice()
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

    def sortable(self) -> Tensor:
        """Return the piece of all updates in float32, or float64 if that is their dtype: [updates, count]."""
        self._refuse_twice()
        dtype = torch.float64 if self._dtype == torch.float64 else torch.float32
        if self._exact is None:
            self._exact = torch.empty((len(self._updates), len(self._wide)), dtype=dtype)
        whole = self._exact[:, : self._count]
        narrow, raw = self._buffer.cut(self._count)
        for row, update in zip(whole, self._updates, strict=True):
            if self._dtype == dtype:
                update.fill_from(self._offset, bytes_of(row))
            else:
                update.fill_from(self._offset, raw)
                row.copy_(narrow)
            self._read += 1
        return whole

    def _refuse_twice(self) -> None:
        if self._read:
            raise RuntimeError("The updates can be iterated over once; call matrix() to do it several times.")

    def controls(self) -> Iterator[Tensor]:
        """Yield the piece of the control of each update: [slots, count]."""
        for control in self._controls:
            self._read_controls += 1
            piece = torch.empty((self._count, control.schema[0].shape[1]), dtype=slot_dtype(self._dtype))
            control.fill(bytes_of(piece))
            yield piece.double().t()

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

    def __init__(self, blobs: OpenBlobs, dtype: torch.dtype, size: int, strategy: Elementwise) -> None:
        self._rows = _Rows(blobs.chosen, dtype, size, blobs.controls)
        self._strategy = strategy
        self._parent = blobs.parent
        self._state = blobs.state
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

    def __init__(self, updates: Sequence[OpenUpdate], dtype: torch.dtype, size: int) -> None:
        self._rows = _Rows(updates, dtype, size)

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        self._rows.begin(count, offset)
        return self._rows.narrowed(weighted_mean(self._rows, self._rows.weights) >= 0.5)


class _Integers:
    """Combines pieces of integers: their exact mean, weighted by examples and rounded."""

    def __init__(self, updates: Sequence[OpenUpdate], dtype: torch.dtype, size: int) -> None:
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


class _Medians:
    """Combines pieces of integers or booleans: their median, the lower one of two middle values."""

    def __init__(self, updates: Sequence[OpenUpdate], dtype: torch.dtype, size: int) -> None:
        self._updates = updates
        self._all = torch.empty((len(updates), size), dtype=dtype)

    def next(self, count: int, offset: int) -> Tensor:
        """Return the next *count* elements of the new model, at *offset* in the file."""
        rows = self._all[:, :count]
        for row, update in zip(rows, self._updates, strict=True):
            update.fill_from(offset, bytes_of(row))
        [middle] = order_statistics(rows.numpy(), [(len(rows) - 1) // 2])
        return torch.from_numpy(middle)
