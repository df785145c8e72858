"""Rules over whole updates whose result is a combination of them: coefficients times changes.

Each rule computes the coefficients from the inner products of the changes, once, before any element of the
result (`Combination.coefficients`). The second pass over the files reads only updates with a coefficient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import UpdatePieces, UpdateTable, weighted_mean
from p2pfl.learning.strategies.robust import Robust
from p2pfl.strategy_specs import StrategySpec


class Combination(Robust):
    """The result is the parent plus the sum of coefficients times changes, update minus parent."""

    def __init__(self, spec: StrategySpec) -> None:
        """Make the strategy of *spec*."""
        super().__init__(spec)
        self._chosen = torch.empty(0)
        """The coefficients of the updates that count, all but zeros."""

    @abstractmethod
    def coefficients(self, products: Tensor) -> Tensor:
        """Return the coefficient of each update, [updates] float64, from the *products* of their changes.

        The changes of an update may have the product infinity or NaN, if it has numbers that are too large or
        no numbers. Its coefficient must be zero.
        """

    def choose(self, table: UpdateTable) -> Sequence[int]:
        """Return the indices of the updates whose coefficient is not zero."""
        coefficients = self.coefficients(table.products())
        indices = coefficients.nonzero().flatten()
        if not len(indices):  # no update is usable, and the interface asks for one
            indices = torch.zeros(1, dtype=torch.int64)
        self._chosen = coefficients[indices]
        return [int(index) for index in indices]

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the combination and *state* unchanged."""
        return self.change(parent, updates).add_(parent), state

    def change(self, parent: Tensor, updates: UpdatePieces) -> Tensor:
        """Return the sum of coefficients times changes, [elements]."""
        total = torch.zeros_like(parent)
        change = torch.empty_like(parent)
        for update, coefficient in zip(updates, self._chosen.tolist(), strict=True):
            torch.sub(update, parent, out=change)
            total.add_(change, alpha=coefficient)
        return total


class WeightedCombination(Combination):
    """The result is a mean of updates, so the parent is not needed: the coefficients are relative weights.

    One update alone is the result, bit for bit.
    """

    needs_parent: ClassVar[bool] = False
    stays_between: ClassVar[bool] = True

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean, weighted by the coefficients, and *state* unchanged."""
        return weighted_mean(updates, self._chosen), state
