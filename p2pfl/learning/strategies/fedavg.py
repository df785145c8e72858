"""FedAvg: the mean of the updates, parameters and buffers alike, weighted by their examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017), Algorithm
1: `w <- sum over k of n_k / n * w_k`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces, weighted_mean


class FedAvg(Elementwise):
    """The weighted mean of the updates."""

    needs_parent: ClassVar[bool] = False
    stays_between: ClassVar[bool] = True

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the weighted mean and *state* unchanged."""
        return weighted_mean(updates, weights), state
