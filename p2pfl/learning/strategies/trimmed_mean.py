"""The mean of each element without its smallest and largest values.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (2018), Algorithm 1,
option II.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import UpdatePieces
from p2pfl.learning.strategies.robust import Robust, mean_of
from p2pfl.learning.strategies.sorting_network import order_statistics
from p2pfl.strategy_specs import TrimmedMeanSpec


class TrimmedMean(Robust):
    """The mean of the values that remain when as many as there are attackers are removed at each end."""

    needs_parent: ClassVar[bool] = False

    def __init__(self, spec: TrimmedMeanSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._attackers = spec.attackers

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the trimmed mean and *state* unchanged."""
        rows = updates.sortable().numpy()  # [updates, elements]
        # Definition 2: trmean_b = 1 / ((1 - 2b) m) * the sum of those that remain, with b m the attackers
        remaining = range(self._attackers, len(rows) - self._attackers)
        values = [torch.from_numpy(one) for one in order_statistics(rows, remaining)]
        return mean_of(values), state
