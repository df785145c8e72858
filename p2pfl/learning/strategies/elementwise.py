"""The interface of strategies whose result at each element depends only on that element of the updates.

Means, medians, trimmed means and server optimizers are examples. `p2pfl.learning.aggregation` reads the files
piece by piece and calls `Elementwise.combine` for each piece, so a whole model is never in memory.

`combine` gets only floating-point elements. Integers, such as batch counters, and booleans are averaged by
examples with every strategy (`p2pfl.learning.strategies.integers`, `weighted_mean`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from torch import Tensor


class UpdatePieces(Protocol):
    """The same piece of all updates, in float64 on the CPU."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the piece of each update, [elements], in order. Each is valid until the next one.

        The pieces can be iterated over once; several times after a call of `matrix`.
        """

    def matrix(self) -> Tensor:
        """Return the pieces as one tensor: [updates, elements]. A mean takes a third more time this way."""


class Elementwise(ABC):
    """The base class of strategies that work element by element."""

    needs_parent: ClassVar[bool] = True
    """Whether `combine` uses the parent. If False, the parent's file is not read for it."""
    stays_between: ClassVar[bool] = False
    """Whether each element of an exact result is between the minimum and the maximum of the updates. The
    result of float64 tensors, which are computed without extra digits, is then clamped to this range. So an
    element that is equal in all updates does not change by a bit."""

    @abstractmethod
    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new elements and the new state of one piece. All tensors are float64, on the CPU.

        *parent* is [elements], or [0] without `needs_parent`. Read all *updates*; do not change them.
        *weights* is [updates]: the number of examples that each update was trained on. *state* is the
        strategy's state of these elements from the last round; None: no state.
        """


def weighted_mean(updates: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Return the mean, [elements], of *updates*, [elements] each, weighted by *weights*, [updates].

    The updates are added one after another, and the order affects the last bits.
    """
    total: Tensor | None = None
    for update, weight in zip(updates, weights.tolist(), strict=True):
        if total is None:  # a sum that starts with zero would lose the sign of negative zeros
            total = update * weight
        else:
            total.add_(update, alpha=weight)
    assert total is not None
    total.div_(weights.sum())
    return total
