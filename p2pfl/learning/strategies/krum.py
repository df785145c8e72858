"""Krum: the update that is closest to its nearest neighbours, and Multi-Krum: the mean of the best updates.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (2017), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from p2pfl.learning.strategies.combination import WeightedCombination
from p2pfl.strategy_specs import KrumSpec, MultiKrumSpec


class Krum(WeightedCombination):
    """The update with the lowest score, as it is."""

    def __init__(self, spec: KrumSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._attackers = spec.attackers

    def coefficients(self, products: Tensor) -> Tensor:
        """Return 1 for the best update and 0 for all others."""
        return _ones(ranking(squared_distances(products), self._attackers), 1)


class MultiKrum(WeightedCombination):
    """The unweighted mean of the updates with the lowest scores."""

    def __init__(self, spec: MultiKrumSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._attackers = spec.attackers
        self._keep = spec.keep

    def coefficients(self, products: Tensor) -> Tensor:
        """Return 1 for each of the best updates, at most for all but the attackers, and 0 for all others."""
        honest = len(products) - self._attackers
        keep = min(self._keep or honest, honest)
        return _ones(ranking(squared_distances(products), self._attackers), keep)


def _ones(order: Tensor, count: int) -> Tensor:
    """Return 1 at the first *count* indices of *order*, and 0 elsewhere."""
    chosen = torch.zeros(len(order), dtype=torch.float64)
    chosen[order[:count]] = 1
    return chosen


def squared_distances(products: Tensor) -> Tensor:
    """Return the squared distances, [updates, updates], that follow from *products* of the same shape.

    The distance to an update whose numbers are too large for a product, or are none, is infinite.
    """
    norms = products.diag()
    # The sum of both products, since rounding may give them different last bits
    distances = norms.unsqueeze(0) + norms.unsqueeze(1) - (products + products.t())
    distances = distances.nan_to_num(torch.inf, torch.inf, torch.inf)
    return distances.clamp_(min=0).fill_diagonal_(0)  # rounding may give less than zero


def ranking(distances: Tensor, attackers: int) -> Tensor:
    """Return the indices of the updates, the one with the lowest score first.

    Of equal scores, the lower sum of all distances is first. With one neighbour, the two closest updates
    always have the same score. The paper takes the smaller identifier, but then the order would matter.
    """
    order = distances.sum(dim=1).argsort(stable=True)
    return order[krum_scores(distances, attackers)[order].argsort(stable=True)]


def krum_scores(distances: Tensor, attackers: int) -> Tensor:
    """Return the score of each update, [updates], from the squared *distances*, [updates, updates].

    It is the sum over the n - f - 2 nearest other updates, with f *attackers* (section 4, definition of
    s(i)), or over one if that is less.
    """
    neighbours = max(1, len(distances) - attackers - 2)
    others = distances.clone().fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)
