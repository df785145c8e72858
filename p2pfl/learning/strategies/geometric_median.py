"""The geometric median: the point with the smallest sum of distances to the updates.

Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning" (2022), Algorithm 2, the smoothed
Weiszfeld algorithm. The point is a weighted mean of the updates, so its distances follow from the inner
products of the changes, and the iterations need no file.
"""

from __future__ import annotations

import torch
from torch import Tensor

from p2pfl.learning.strategies.combination import WeightedCombination
from p2pfl.learning.strategies.krum import squared_distances
from p2pfl.strategy_specs import GeometricMedianSpec

TOLERANCE = 1e-9
"""The iterations end when no weight changes by more than this share: the result is float32 as a rule."""


class GeometricMedian(WeightedCombination):
    """The smoothed geometric median of the updates, each with the same weight."""

    def __init__(self, spec: GeometricMedianSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._smoothing = spec.smoothing
        self._iterations = spec.iterations

    def coefficients(self, products: Tensor) -> Tensor:
        """Return the weights of the updates in the median; their sum is 1."""
        result = torch.zeros(len(products), dtype=torch.float64)
        usable = products.diag().isfinite().nonzero().flatten()
        if not len(usable):
            return torch.ones_like(result)  # not finite either: the parent's model stays
        inner = products[usable][:, usable]
        weights = _first(squared_distances(products))[usable]
        for _ in range(self._iterations):
            distances = distances_from(weights, inner)
            # Algorithm 2, line 4: beta_k = alpha_k / max(nu, |v - w_k|), all alpha_k equal
            new = 1 / distances.clamp(min=self._smoothing)
            new /= new.sum()
            is_done = bool(((new - weights).abs() <= TOLERANCE * new).all())
            weights = new
            if is_done:
                break
        result[usable] = weights
        return result


def _first(distances: Tensor) -> Tensor:
    """Return the weights of the first point: equal within the smallest ball with a majority of the updates.

    The point is near right updates then, however far away the wrong ones are. From the mean of all, each
    iteration would only divide the distance by the ratio of right to wrong updates.
    """
    others = len(distances) // 2
    nearest = distances.sort(dim=1)
    centre = int(nearest.values[:, others].argmin())
    weights = torch.zeros(len(distances), dtype=torch.float64)
    weights[nearest.indices[centre, : others + 1]] = 1 / (others + 1)
    return weights


def distances_from(point: Tensor, products: Tensor) -> Tensor:
    """Return the distance, [changes], of each change from the *point*, given by the coefficients of changes.

    *products* is [changes, changes]. With P the products and p the point, the squared distance of change k is
    `P_kk - 2 (P p)_k + p P p`.
    """
    along = products @ point
    return (products.diag() - 2 * along + point @ along).clamp_(min=0).sqrt_()
