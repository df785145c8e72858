"""FedNova: a member that took more local steps does not weigh more for it.

Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization" (2020),
section 4: `x <- x - tau_eff * sum of p_i * eta * d_i`, where d_i is the sum of the local gradients, divided
by the norm of its factors a_i. So each change is divided by its norm here, and their mean is multiplied by
the mean norm. With equal steps this is FedAvg. Buffers are averaged by examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from p2pfl.learning.strategies.changes import summed_change
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces, UpdateTable


class FedNova(Elementwise):
    """Normalised averaging."""

    averages_buffers: ClassVar[bool] = True

    def __init__(self) -> None:
        self._factors = torch.empty(0)

    def begin(self, table: UpdateTable) -> Sequence[int]:
        """Compute the factor of each change."""
        shares = table.examples / table.examples.sum()  # p_i
        norms = step_norms(table.steps, table.momentum)  # ||a_i||_1
        effective = (shares * norms).sum()  # tau_eff
        self._factors = effective * shares / norms  # [updates]
        return range(len(self._factors))

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the parent moved by the normalised mean change."""
        return parent + summed_change(parent, updates, self._factors), state


def step_norms(steps: Tensor, momentum: float) -> Tensor:
    """Return how far a gradient of 1 moves a parameter in *steps*, [updates], with a learning rate of 1.

    For SGD with momentum rho the paper has `||a_i||_1 = [tau - rho (1 - rho^tau) / (1 - rho)] / (1 - rho)`,
    and without momentum the number of steps. An update without steps counts as one step.
    """
    tau, rho = steps.clamp(min=1), momentum
    return (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
