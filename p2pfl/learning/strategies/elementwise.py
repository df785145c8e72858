"""The interface of strategies whose result depends, element by element, on the updates' elements alone.

Means, medians, trimmed means and server optimizers are of this kind. `p2pfl.learning.aggregation` reads the
files piece by piece and calls `Elementwise.combine` for each piece, so a strategy never holds a whole model.

Only floating-point tensors reach `combine`. Integers, such as counters of batches, and booleans are averaged
by samples whatever the strategy (`p2pfl.learning.strategies.integers`, `weighted_mean`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from torch import Tensor


class UpdatePieces(Protocol):
    """The same piece of all updates, in float64 on the CPU."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the pieces, [elements] each, in the updates' order. Each is valid until the next one.

        They can be gone through once, unless they are in a matrix.
        """

    def matrix(self) -> Tensor:
        """Return all of them at once: [updates, elements]. A mean takes a third more time that way."""


class Elementwise(ABC):
    """Base of the strategies that work element by element."""

    needs_parent: ClassVar[bool] = True
    """Whether `combine` looks at the parent. Where it does not, the parent's file is not read for it."""
    stays_between: ClassVar[bool] = False
    """Whether each element of an exact result lies between the least and the greatest of the updates. A
    float64 tensor has no digits to spare, so its result is then put back between them, and an element that is
    equal in all updates comes out bit for bit."""

    @abstractmethod
    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new elements and the new state of one piece. All tensors are float64, on the CPU.

        *parent* is [elements], or [0] without `needs_parent`. *updates* must all be looked at, and not be
        changed. *weights* is [updates]: the samples each update was trained on. *state* is what the strategy
        keeps of these elements from round to round, None where it keeps nothing.
        """


def weighted_mean(updates: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Return the mean, [elements], of *updates*, [elements] each, by *weights*, [updates].

    The updates are added one after another: the order decides the last bits.
    """
    total: Tensor | None = None
    for update, weight in zip(updates, weights.tolist(), strict=True):
        if total is None:  # a sum begun with zero would lose the sign of negative zeros
            total = update * weight
        else:
            total.add_(update, alpha=weight)
    assert total is not None
    total.div_(weights.sum())
    return total
