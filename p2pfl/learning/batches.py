"""Examples in batches: tensors in the memory of the device, or anything else (`p2pfl.learning.loader`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = tuple[Any, Any, int]
"""Inputs of the model, targets, and the number of examples; the tensors are on the device."""


def call_model(module: nn.Module, inputs: Any) -> Any:
    """Return the outputs of *module* for the *inputs* of a batch.

    A mapping is passed as keyword arguments, a list or tuple as arguments, anything else as one argument.
    """
    if isinstance(inputs, Tensor):
        return module(inputs)
    if isinstance(inputs, Mapping):
        return module(**inputs)
    if isinstance(inputs, list | tuple) and not hasattr(inputs, "to"):  # a packed sequence is a tuple too
        return module(*inputs)
    return module(inputs)


class Batches(Protocol):
    """Examples of one device that a model is trained or evaluated on."""

    @property
    def examples(self) -> int:
        """Number of examples."""

    @property
    def labels(self) -> Tensor | None:
        """[examples] int64, the class of each; None: the targets are no classes, or not known yet."""

    def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in random order, in batches of *sizes*."""

    def ordered(self, size: int) -> Iterator[Batch]:
        """Yield all examples in their order, in batches of at most *size*."""


@dataclass(frozen=True)
class TensorBatches:
    """Some rows of tensors in the memory of the device."""

    x: Tensor
    """[rows, ...] of the whole split: the input of the model, or what the `scaling` makes it from."""
    y: Tensor
    """[rows, ...] of the whole split."""
    rows: Tensor
    """[examples] int64: indices into *x* and *y*; on the same device."""
    scaling: Callable[[Tensor], Tensor] | None = None
    """Applied to each batch of *x* before the model; None: batches are used as they are."""

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.rows)

    @property
    def labels(self) -> Tensor | None:
        """The targets of the rows if they are classes."""
        return self.y[self.rows] if self.y.ndim == 1 and self.y.dtype == torch.int64 else None

    def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in random order, in batches of *sizes*."""
        return map(self.batch, torch.split(self.shuffled_rows(generator), sizes))

    def shuffled_rows(self, generator: torch.Generator) -> Tensor:
        """Return the rows in random order: [examples] int64."""
        return self.rows[torch.randperm(len(self.rows), generator=generator).to(self.rows.device)]

    def ordered(self, size: int) -> Iterator[Batch]:
        """Yield all examples in their order, in batches of at most *size*."""
        return map(self.batch, torch.split(self.rows, size))

    def batch(self, rows: Tensor) -> Batch:
        """Return copies of the *rows* [batch] int64; the model may change them."""
        x = self.x.index_select(0, rows)  # x[rows] takes ten times as long for pictures
        scaled = x if self.scaling is None else self.scaling(x)
        return scaled, self.y.index_select(0, rows), len(rows)
