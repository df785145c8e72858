"""Reads and writes the files of a strategy's state and of an update's control, by the names of tensors.

The format is that of `p2pfl.spec.slot_schema`: a number in each slot for each floating-point element of the
model, in the order of the model file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from p2pfl.learning.weights import TORCH_DTYPES, bytes_of
from p2pfl.schema import Schema

Slots = dict[str, dict[str, Tensor]]
"""By slot and name of a tensor of the model: a number for each of its elements, in its shape."""


class Source(Protocol):
    """A file of slots, opened at its first element."""

    def fill(self, raw: memoryview) -> None:
        """Read the next `len(raw)` bytes into *raw*."""


def read_slots(source: Source, model: Schema, slots: Sequence[str]) -> Slots:
    """Return the numbers in *source*, a file of *slots* for a model of the schema *model*.

    Raises:
        BlobError: the file was truncated.
    """
    result: Slots = {slot: {} for slot in slots}
    for spec in model:
        dtype = TORCH_DTYPES[spec.dtype]
        if dtype.is_floating_point:
            values = torch.empty((spec.elements, len(slots)), dtype=slot_dtype(dtype))
            source.fill(bytes_of(values))
            for column, slot in enumerate(slots):
                result[slot][spec.name] = values[:, column].reshape(spec.shape)
    return result


def slot_pieces(numbers: Mapping[str, Mapping[str, Tensor]], model: Schema) -> Iterator[Tensor]:
    """Yield the pieces of a file with *numbers*, by slot and tensor; a tensor that is missing is zero."""
    for spec in model:
        dtype = TORCH_DTYPES[spec.dtype]
        if dtype.is_floating_point:
            values = torch.zeros((spec.elements, len(numbers)), dtype=slot_dtype(dtype))
            for column, tensors in enumerate(numbers.values()):
                if spec.name in tensors:
                    values[:, column] = tensors[spec.name].detach().cpu().reshape(-1)
            yield values


def slot_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the slots of elements of *dtype*."""
    return torch.float64 if dtype == torch.float64 else torch.float32
