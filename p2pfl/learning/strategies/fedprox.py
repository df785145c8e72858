"""The local part of FedProx; its aggregation is that of FedAvg.

Li et al., "Federated Optimization in Heterogeneous Networks" (2020), equation 2: a member minimises
`F_k(w) + mu / 2 |w - w^t|^2`. The gradient of the second term is added to that of each batch.
"""

from __future__ import annotations

import torch
from torch import nn

from p2pfl.learning.strategies.local import LocalEnd, LocalStart, corrected_parameters
from p2pfl.strategy_specs import FedProxSpec


class FedProxRule:
    """Pulls the parameters towards those of the parent."""

    def __init__(self, start: LocalStart) -> None:
        assert isinstance(start.spec.strategy, FedProxSpec)
        self._mu = start.spec.strategy.mu
        self._rows = [(value, value.detach().clone()) for value in corrected_parameters(start).values()]

    @torch.no_grad()
    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Add `mu (w - w^t)` to each gradient."""
        if not self._mu:  # FedAvg to the bit: a sum with zeros changes the sign of negative zeros
            return
        for parameter, parent in self._rows:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - parent, alpha=self._mu)

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return nothing: only the gradients differ."""
        return LocalEnd()
