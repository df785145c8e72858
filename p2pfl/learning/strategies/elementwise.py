"""The interface of aggregation strategies.

A strategy computes each element of the new model from the same element of the parent, of all updates and of
its own state. `p2pfl.learning.aggregation` reads the files piece by piece and calls `Elementwise.combine` for
each piece, so a whole model is never in memory. Means, medians, trimmed means and server optimizers work this
way.

A rule over whole updates, such as Krum or the geometric median, works in two passes. The first pass
computes the inner products of all changes (`UpdateTable.products`), a small matrix from which all their
distances follow. `begin` decides from it which updates count and how much. The second pass combines them.

`combine` gets only floating-point elements. Integers, such as batch counters, and booleans are averaged by
examples (`p2pfl.learning.strategies.integers`, `weighted_mean`), or are the median (`takes_median`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor


class UpdatePieces(Protocol):
    """The same piece of the updates that count, in float64 on the CPU."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the piece of each update, [elements], in order. Each is valid until the next one.

        The pieces can be iterated over once; several times after a call of `matrix`.
        """

    def matrix(self) -> Tensor:
        """Return the pieces as one tensor: [updates, elements]. A mean takes a third more time this way."""

    def sortable(self) -> Tensor:
        """Return the pieces as one tensor, [updates, elements]: float64 for elements of F64, else float32.

        The values are exact. It takes half of the memory of `matrix`, and comparisons take half of the time.
        Call it once, in place of an iteration; the caller may overwrite the tensor.
        """

    def controls(self) -> Iterator[Tensor]:
        """Yield the same piece of the control of each update, [slots, elements], in order, once.

        Each is valid until the next one. Only for strategies whose updates have controls.
        """


@dataclass(frozen=True)
class UpdateTable:
    """What is known about the updates of a round before their elements are read. Tensors are float64."""

    examples: Tensor
    """[updates]: the number of examples that each was trained on."""
    steps: Tensor
    """[updates]: the optimizer steps of its training."""
    losses: Tensor
    """[updates]: the loss that its entry in the record states."""
    members: int
    """Size of the roster, of which the updates may be a sample."""
    momentum: float
    """Momentum of the local optimizer; 0 if it has none, or the training loop is a script's."""
    learning_rate: float
    """Learning rate of the local optimizer in the run's options."""
    products: Callable[[], Tensor]
    """Reads all updates and returns the inner product of the change of each with that of each other,
    [updates, updates], over the parameters. A change is update minus parent. With `measures_state` there is a
    last row and column for the first slot of the state, seen as one more change: then the matrix is
    [updates + 1, updates + 1]."""


class Elementwise(ABC):
    """The base class of strategies. An object serves one aggregation."""

    least_updates: ClassVar[int] = 1
    """Least number of updates; only for strategies of the user's own (`p2pfl.strategy_specs`)."""
    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the slots of the state."""
    initial: ClassVar[tuple[float, ...]] = ()
    """The value of each slot before the first aggregation; empty: 0 for all."""
    needs_parent: ClassVar[bool] = True
    """Whether `combine` uses the parent. If False, the parent's file is not read for it."""
    stays_between: ClassVar[bool] = False
    """Whether each element of an exact result is between the minimum and the maximum of the updates. The
    result of float64 tensors, which are computed without extra digits, is then clamped to this range. So an
    element that is equal in all updates does not change by a bit."""
    averages_buffers: ClassVar[bool] = False
    """Whether buffers, such as running means, are averaged by examples, and only parameters are combined."""
    takes_median: ClassVar[bool] = False
    """Whether integers, booleans and buffers are the median of all updates, each of which counts once, and
    only parameters are combined. For rules that resist wrong updates: a mean of examples would let one of
    them decide."""
    measures_state: ClassVar[bool] = False
    """Whether `UpdateTable.products` has a row for the first slot of the state."""

    def initial_state(self) -> tuple[float, ...]:
        """Return the value of each slot before the first aggregation; a subclass may compute it."""
        return self.initial or (0.0,) * len(self.slots)

    def begin(self, table: UpdateTable) -> Sequence[int]:
        """Prepare the aggregation; return the indices of the updates that `combine` gets, ascending.

        The files of the other updates are not read for `combine`.
        """
        return range(len(table.examples))

    @abstractmethod
    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new elements and the new state of one piece. All tensors are float64, on the CPU.

        The new elements may be of another floating-point dtype that holds them exactly.

        *parent* is [elements], or [0] without `needs_parent`. Read all *updates*; do not change them.
        *weights* is [updates]: the number of examples that each update was trained on. *state* is
        [slots, elements]: the strategy's state from the last aggregation; None without slots. Do not change
        it in place.
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
