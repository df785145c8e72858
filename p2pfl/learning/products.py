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
        width = slot_dtype(run.dtype).itemsize
        for start in range(0, run.elements, piece):
            count = min(piece, run.elements - start)
            if not run.is_buffer:
                changes = torch.zeros((rows, count), dtype=torch.float64)
                narrow = torch.empty(count, dtype=run.dtype)
                raw = bytes_of(narrow)
                read_parent(offset, raw)
                parent = narrow.double()
                for row, update in zip(changes, updates, strict=False):
                    update.fill_from(offset, raw)
                    torch.sub(narrow, parent, out=row)
                if state is not None:
                    values = torch.empty((count, slots), dtype=slot_dtype(run.dtype))
                    state.fill_from(place, bytes_of(values))
                    changes[-1] = values[:, 0]
                found = changes @ changes.t()
                if not is_finite(found):  # a mask in the model has no changes
                    changes[:, ~parent.isfinite()] = 0
                    found = changes @ changes.t()
                total += found
            offset += count * run.dtype.itemsize
            place += count * slots * width
    return total
