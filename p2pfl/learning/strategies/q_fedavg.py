"""q-FedAvg: members on which the model is worse weigh more, so that their losses become more equal.

Li et al., "Fair Resource Allocation in Federated Learning" (2020), algorithm 2, with L = 1 / learning rate as
there. With momentum rho, which the paper does not have, a gradient moves the parameters 1 / (1 - rho) times
as far, so L = (1 - rho) / learning rate. Members count alike, whatever their number of examples. Buffers are
averaged by examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from p2pfl.learning.batches import call_model
from p2pfl.learning.strategies.changes import summed_change
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces, UpdateTable
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.training import EVALUATION_BATCH, NON_FINITE
from p2pfl.strategy_specs import QFedAvgSpec

LEAST_LOSS = 1e-10
"""A smaller loss counts as this: for q < 1 the equations divide by a power of the loss."""


class QFedAvg(Elementwise):
    """Fair averaging. The loss of an update is that of the parent on the member's training examples."""

    averages_buffers: ClassVar[bool] = True

    def __init__(self, spec: QFedAvgSpec) -> None:
        self._q = spec.q
        self._factors = torch.empty(0)

    def begin(self, table: UpdateTable) -> Sequence[int]:
        """Compute the factor of each change."""
        count = len(table.losses)
        squares = table.products().diagonal()[:count] if self._q else torch.zeros(count)
        lipschitz = (1 - table.momentum) / table.learning_rate
        self._factors = fair_factors(table.losses, squares, self._q, lipschitz)
        return range(count)

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the parent moved by the changes times their factors."""
        return parent + summed_change(parent, updates, self._factors), state


def fair_factors(losses: Tensor, squares: Tensor, q: float, lipschitz: float) -> Tensor:
    """Return the factor of each change, [updates], in `w <- w + sum of factor times change`.

    *losses* are F_k and *squares* the squared norms of the changes, [updates]; *lipschitz* is L. With changes
    d_k = w_k - w, algorithm 2 has `Delta_k = -L F_k^q d_k`, `h_k = q F_k^(q-1) L^2 |d_k|^2 + L F_k^q` and
    `w <- w - sum Delta_k / sum h_k`. Both are divided here by L and by the q-th power of the largest loss,
    since a power of a loss may be too large for a float.
    """
    losses = losses.clamp(min=LEAST_LOSS)
    largest = losses.max()
    relative = losses / largest
    powers = relative**q
    curvatures = powers + q / largest * relative ** (q - 1) * lipschitz * squares
    return powers / curvatures.sum()


class QFedAvgRule:
    """Measures the loss of the parent on this device's training examples; the training stays as it is."""

    def __init__(self, start: LocalStart) -> None:
        self._loss = _mean_loss(start)

    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Change nothing."""

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return the loss that was measured."""
        return LocalEnd(loss=self._loss)


@torch.no_grad()
def _mean_loss(start: LocalStart) -> float:
    """Return F_k of the parent: the mean training loss over all training examples, without dropout."""
    start.module.eval()
    total = 0.0
    for inputs, targets, count in start.batches.ordered(EVALUATION_BATCH):
        total += count * float(start.objective.loss(call_model(start.module, inputs), targets))
    mean = total / start.batches.examples
    return mean if math.isfinite(mean) else NON_FINITE
