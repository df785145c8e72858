"""FedAdagrad, FedAdam and FedYogi: adaptive optimizers of the server.

Reddi et al., "Adaptive Federated Optimization" (2021), algorithm 2. There is no bias correction there, and
the second moment begins at tau squared. The mean change is weighted by examples, as FedAvg weighs updates;
the paper's algorithm gives the members of a round equal weights. Buffers are averaged by examples.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from p2pfl.learning.strategies.changes import mean_change
from p2pfl.learning.strategies.elementwise import Elementwise, UpdatePieces
from p2pfl.strategy_specs import FedAdagradSpec, FedAdamSpec, FedYogiSpec


class AdaptiveOptimizer(Elementwise):
    """What the three have in common: all but the second moment."""

    slots: ClassVar[tuple[str, ...]] = ("first", "second")
    averages_buffers: ClassVar[bool] = True

    def __init__(self, spec: FedAdagradSpec | FedAdamSpec | FedYogiSpec) -> None:
        self._rate = spec.server_lr
        self._beta1 = spec.beta1
        self._tau = spec.tau

    def initial_state(self) -> tuple[float, ...]:
        """Return 0 and tau squared: the paper asks for a second moment of at least that."""
        return 0.0, self._tau**2

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the moved elements and both moments."""
        assert state is not None
        change = mean_change(parent, updates, weights)  # Delta_t
        new = state.clone()
        first, second = new.unbind()
        first.mul_(self._beta1).add_(change, alpha=1 - self._beta1)  # m_t
        self.advance(second, change.square_())  # v_t
        return parent + self._rate * first / (second.sqrt() + self._tau), new  # x_{t+1}

    @abstractmethod
    def advance(self, second: Tensor, square: Tensor) -> None:
        """Change the *second* moment, [elements], in place by the *square* of the mean change."""


class FedAdagrad(AdaptiveOptimizer):
    """Algorithm 2, FedAdagrad: `v_t = v_{t-1} + Delta_t^2`."""

    def advance(self, second: Tensor, square: Tensor) -> None:
        """Add *square*."""
        second.add_(square)


class FedAdam(AdaptiveOptimizer):
    """Algorithm 2, FedAdam: `v_t = beta_2 v_{t-1} + (1 - beta_2) Delta_t^2`."""

    def __init__(self, spec: FedAdamSpec) -> None:
        super().__init__(spec)
        self._beta2 = spec.beta2

    def advance(self, second: Tensor, square: Tensor) -> None:
        """Move *second* towards *square*, in proportion to their difference."""
        second.mul_(self._beta2).add_(square, alpha=1 - self._beta2)


class FedYogi(AdaptiveOptimizer):
    """Algorithm 2, FedYogi: `v_t = v_{t-1} - (1 - beta_2) Delta_t^2 sign(v_{t-1} - Delta_t^2)`."""

    def __init__(self, spec: FedYogiSpec) -> None:
        super().__init__(spec)
        self._beta2 = spec.beta2

    def advance(self, second: Tensor, square: Tensor) -> None:
        """Move *second* towards *square* by a step that does not depend on *second*."""
        second.addcmul_(square, (second - square).sign_(), value=self._beta2 - 1)
