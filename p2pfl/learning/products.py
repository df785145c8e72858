"""The inner products of the changes of all updates, from which rules over whole updates follow.

The squared distance of two updates is `<a, a> + <b, b> - 2 <a, b>` of their changes, so a matrix of a few
numbers replaces the updates in Krum, geometric medians and clipping. The changes are differences from the
parent in float64: they are small, so little precision is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from p2pfl.learning.slots import slot_dtype
from p2pfl.learning.weights import bytes_of, is_finite, runs
from p2pfl.schema import Schema, header


class Readable(Protocol):
    """A file that is read at any offset."""

    def fill_from(self, offset: int, raw: memoryview) -> None:
        """Read `len(raw)` bytes from *offset* on into *raw*; the next read continues after them."""


class Slots(Readable, Protocol):
    """A file of the strategy's state."""

    schema: Schema


def inner_products(
    updates: Sequence[Readable],
    read_parent: Callable[[int, memoryview], None],
    schema: Schema,
    state: Slots | None,
    *,
    slots: int,
    piece: int,
) -> Tensor:
    """Return the inner product of each change with each other, [changes, changes] float64.

    *updates* and parent have the schema *schema*. With *state*, its first slot of *slots* is one more change,
    the last. Buffers, integers and booleans do not count, nor do elements that are not finite in the parent.
    An update with NaN elsewhere, or with numbers that are too large, has products that are not finite.
    *piece* elements are read at a time.
    """
    rows = len(updates) + (state is not None)
    total = torch.zeros((rows, rows), dtype=torch.float64)
    offset = len(header(schema))
    place = len(header(state.schema)) if state is not None else 0
    for run in runs(schema, by_kind=True):
        if not run.dtype.is_floating_point:
            offset += run.elements * run.dtype.itemsize
            continue
        size = min(piece, run.elements)
        width = slot_dtype(run.dtype).itemsize
        narrow = torch.empty(size, dtype=run.dtype)
        before = torch.empty(size, dtype=torch.float64)
        changes = torch.empty((rows, size), dtype=torch.float64)
        for start in range(0, run.elements, piece):
            count = min(size, run.elements - start)
            if not run.is_buffer:
                values, raw = narrow[:count], bytes_of(narrow[:count])
                read_parent(offset, raw)
                parent = before[:count].copy_(values)
                for row, update in zip(changes, updates, strict=False):
                    update.fill_from(offset, raw)
                    row[:count].copy_(values).sub_(parent)
                if state is not None:
                    numbers = torch.empty((count, slots), dtype=slot_dtype(run.dtype))
                    state.fill_from(place, bytes_of(numbers))
                    changes[-1, :count] = numbers[:, 0]
                total += _products_of(changes[:, :count], parent)
            offset += count * run.dtype.itemsize
            place += count * slots * width
    return total


def _products_of(changes: Tensor, parent: Tensor) -> Tensor:
    """Return the products of one piece of *changes*, [changes, elements], from the *parent*, [elements]."""
    found = changes @ changes.t()
    if not is_finite(found):  # a mask of infinities in the model has no changes
        changes[:, ~parent.isfinite()] = 0
        found = changes @ changes.t()
    return found
