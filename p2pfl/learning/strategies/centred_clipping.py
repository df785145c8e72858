"""The mean of changes that are clipped around a centre: the aggregated change of the last round.

Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization" (2021), section 4. The
centre is the strategy's state. It and the clipped changes are combined with coefficients, so the distances of
each iteration follow from the inner products.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.combination import Combination
from p2pfl.learning.strategies.elementwise import UpdatePieces
from p2pfl.learning.strategies.geometric_median import distances_from
from p2pfl.learning.weights import is_finite
from p2pfl.strategy_specs import CentredClippingSpec, state_slots


class CentredClipping(Combination):
    """The centre plus the mean of the clipped differences from it."""

    slots: ClassVar[tuple[str, ...]] = state_slots(CentredClippingSpec())
    measures_state: ClassVar[bool] = True

    def __init__(self, spec: CentredClippingSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._radius = spec.radius
        self._iterations = spec.iterations
        self._centre = 1.0
        """The coefficient of the old centre in the new one."""

    def coefficients(self, products: Tensor) -> Tensor:
        """Return the coefficient of each change in the new centre."""
        usable = products.diag().isfinite().nonzero().flatten()  # the centre, the last change, is among them
        inner = products[usable][:, usable]
        updates = len(products) - 1
        point = torch.zeros(len(usable), dtype=torch.float64)
        point[-1] = 1
        for _ in range(self._iterations):
            distances = distances_from(point, inner)[:-1]
            # Equation (CC): v <- v + 1/n * sum over i of (x_i - v) * min(1, tau / |x_i - v|)
            scales = torch.where(distances > self._radius, self._radius / distances, 1.0) / updates
            point = point * (1 - scales.sum())
            point[:-1] += scales
        self._centre = float(point[-1])
        result = torch.zeros(updates, dtype=torch.float64)
        result[usable[:-1]] = point[:-1]
        return result

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the parent plus the new centre, and the new centre as the state."""
        assert state is not None
        centre = self.change(parent, updates).add_(state[0], alpha=self._centre)
        if not is_finite(centre):  # a mask in the model has no changes
            centre = torch.where(parent.isfinite(), centre, 0.0)
        return parent + centre, centre.unsqueeze(0)
