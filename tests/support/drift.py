"""Trains a small model on one device with the local rule of a strategy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.cards import Agreement
from p2pfl.learning import training
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.objective import Classification
from p2pfl.learning.slots import Slots
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.strategies.local_rules import local_rule
from tests.support.learning import make_spec


class Small(nn.Module):
    """A layer that trains, one that does not, and a buffer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.out = nn.Linear(4, 2)
        self.fixed = nn.Linear(4, 4, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.fixed.requires_grad_(requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.fixed(x * self.scale))
        return outputs


TRAINED = ("out.weight", "out.bias")
"""The names of the parameters of `Small` that train."""


@dataclass(frozen=True)
class Device:
    """A device with twelve examples, which are one batch."""

    seed: int = 1

    @property
    def batches(self) -> TensorBatches:
        generator = torch.Generator().manual_seed(self.seed)
        x, y = torch.randn(12, 4, generator=generator), torch.arange(12) % 2
        return TensorBatches(x, y, torch.arange(12))

    def start(
        self,
        module: nn.Module,
        strategy: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        state: Slots | None = None,
        memory: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> LocalStart:
        """Return what the rule of *strategy* begins with on this device."""
        plain = {"learning_rate": 0.1, "momentum": 0.0, "batch_size": 12, **options}
        spec = make_spec(strategy=strategy, strategy_arg=dict(arguments or {}), **plain)
        objective = Classification(Agreement(("red", "green"), 12))
        zeros = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
        return LocalStart(
            spec,
            module,
            self.batches,
            objective,
            state=lambda: state or {"control": zeros, "drift": zeros},
            memory=memory or {},
        )

    def train(self, start: LocalStart) -> LocalEnd:
        """Train the module of *start* in place with the rule of its strategy."""
        rule, options = local_rule(start), start.spec.training
        steps, _ = training.train(
            start.module,
            start.batches,
            start.objective,
            options,
            seed=5,
            after_batch=lambda done, total: None,
            rule=rule,
        )
        return LocalEnd() if rule is None else rule.finish(steps, options.learning_rate)

    def gradients(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the gradient of the loss of all examples, of each parameter that trains."""
        module, data = copy.deepcopy(module), self.batches
        functional.cross_entropy(module(data.x), data.y).backward()  # type: ignore[no-untyped-call]
        found = {}
        for name, value in module.named_parameters():
            if value.requires_grad:
                assert value.grad is not None
                found[name] = value.grad
        return found


def trained_values(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters that train."""
    return {name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad}


def assert_near(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-6) -> None:
    """Assert that the tensors of both have the same names and nearly the same values."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance)
