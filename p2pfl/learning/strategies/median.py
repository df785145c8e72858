"""The median of each element.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates" (2018), Algorithm 1,
option I.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.elementwise import UpdatePieces
from p2pfl.learning.strategies.robust import Robust, mean_of
from p2pfl.learning.strategies.sorting_network import order_statistics
from p2pfl.strategy_specs import MedianSpec, StrategySpec


class Median(Robust):
    """The middle value of each element; the mean of two middle values if the number of updates is even."""

    needs_parent: ClassVar[bool] = False

    def __init__(self, spec: StrategySpec | None = None) -> None:
        """Make the strategy; *spec* is a `MedianSpec`."""
        super().__init__(spec or MedianSpec())

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the median and *state* unchanged."""
        rows = updates.sortable().numpy()  # [updates, elements]
        # Definition 1: med{x_k : k in [m]}, the usual one-dimensional median, of each coordinate
        middle = sorted({(len(rows) - 1) // 2, len(rows) // 2})
        values = [torch.from_numpy(one) for one in order_statistics(rows, middle)]
        return (values[0] if len(values) == 1 else mean_of(values)), state
