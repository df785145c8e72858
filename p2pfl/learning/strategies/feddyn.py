"""FedDyn: each device's objective is changed so that all have their minimum at the same model.

Acar et al., "Federated Learning Based on Dynamic Regularization" (2021), algorithm 1. Each device remembers
the gradient of its loss at its last update, which follows from how far the training moved. The server's h is
the state. As in the paper, members count alike. Buffers are averaged by examples.

The local solver may be any optimizer: the gradient is not estimated from its steps. The roster's size stands
for the number m of devices.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from p2pfl.learning.strategies.changes import AmongMembers, summed_change
from p2pfl.learning.strategies.elementwise import UpdatePieces
from p2pfl.learning.strategies.local import LocalEnd, LocalStart, corrected_parameters, in_memory, recalled
from p2pfl.strategy_specs import FedDynSpec

SLOT = "gradient"
"""The slot of the memory."""


class FedDyn(AmongMembers):
    """The server's part."""

    slots: ClassVar[tuple[str, ...]] = ("drift",)

    def __init__(self, spec: FedDynSpec) -> None:
        self._alpha = spec.alpha

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new elements and h."""
        assert state is not None
        total = summed_change(parent, updates, torch.ones_like(weights))  # sum of theta_k - theta^(t-1)
        drift = state - self._alpha / self.members * total  # [1, elements]: h^t
        return parent + total / len(weights) - drift[0] / self._alpha, drift  # theta^t


class FedDynRule:
    """The device's part."""

    def __init__(self, start: LocalStart) -> None:
        assert isinstance(start.spec.strategy, FedDynSpec)
        self._alpha = start.spec.strategy.alpha
        self._parameters = corrected_parameters(start)
        self._parent = [value.detach().clone() for value in self._parameters.values()]
        self._gradients = list(recalled(start, SLOT).values())

    @torch.no_grad()
    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Add `-grad L_k(theta_k^(t-1)) + alpha (theta - theta^(t-1))` to each gradient."""
        rows = zip(self._parameters.values(), self._parent, self._gradients, strict=True)
        for parameter, parent, known in rows:
            if parameter.grad is not None:
                parameter.grad.sub_(known).add_(parameter - parent, alpha=self._alpha)

    @torch.no_grad()
    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return the gradient at the new parameters as the memory."""
        # grad L_k(theta_k^t) = grad L_k(theta_k^(t-1)) - alpha (theta_k^t - theta^(t-1))
        rows = zip(self._parameters.items(), self._parent, self._gradients, strict=True)
        return LocalEnd(
            memory={
                in_memory(SLOT, name): known - self._alpha * (parameter - parent)
                for (name, parameter), parent, known in rows
            }
        )
