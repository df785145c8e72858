"""FedAvgM and DiLoCo: the server moves the model with momentum along the mean change.

Both weigh the updates by their examples, as FedAvg does. Buffers are averaged without momentum: a running
variance that moves on by its momentum may become negative.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from p2pfl.learning.strategies.changes import mean_change
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces
from p2pfl.strategy_specs import DiLoCoSpec, FedAvgMSpec


class ServerMomentum(Elementwise):
    """What both have in common: `v <- beta v + change`, with the weighted mean of the members' changes."""

    slots: ClassVar[tuple[str, ...]] = ("momentum",)
    averages_buffers: ClassVar[bool] = True

    def __init__(self, spec: FedAvgMSpec | DiLoCoSpec) -> None:
        self._rate = spec.server_lr
        self._decay = spec.server_momentum

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the moved elements and the new momentum."""
        assert state is not None
        change = mean_change(parent, updates, weights)
        momentum = self._decay * state[0] + change
        return parent + self._rate * self.step(change, momentum), momentum.unsqueeze(0)

    @abstractmethod
    def step(self, change: Tensor, momentum: Tensor) -> Tensor:
        """Return the direction in which the elements move, [elements]."""


class FedAvgM(ServerMomentum):
    """Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution" (2019).

    FedAvgM: `w <- w + eta v`.
    """

    def step(self, change: Tensor, momentum: Tensor) -> Tensor:
        """Return the momentum."""
        return momentum


class DiLoCo(ServerMomentum):
    """Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models" (2023).

    Algorithm 1 with Nesterov's momentum as its outer optimizer, in the form of `torch.optim.SGD`:
    `w <- w + eta (change + beta v)`. The change is minus the outer gradient.
    """

    def step(self, change: Tensor, momentum: Tensor) -> Tensor:
        """Return the direction of Nesterov's momentum."""
        return change + self._decay * momentum
