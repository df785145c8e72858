"""The part of a strategy that runs on each device: it changes the gradients of the local training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from p2pfl.learning.batches import Batches
from p2pfl.learning.objective import Objective
from p2pfl.learning.slots import Slots
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import StrategySpec


@dataclass
class LocalStart:
    """What a local rule may use before the training."""

    spec: RunSpec
    module: nn.Module
    """The model, with the parameters of the parent."""
    batches: Batches
    """The training examples."""
    objective: Objective
    state: Callable[[], Slots]
    """Returns the strategy's state; zeros before the first aggregation."""
    memory: Mapping[str, Tensor]
    """What this device remembers of the run, by name; empty at first."""


@dataclass
class LocalEnd:
    """What a local rule gives after the training."""

    control: Slots = field(default_factory=dict)
    """The control of the update; a tensor that is missing is zero."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What the device remembers if the update counts, by name."""
    loss: float | None = None
    """The loss that the update's entry states in place of that of the training."""


class LocalRule(Protocol):
    """The local part of a strategy in one training."""

    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Change the gradients of *parameters*, those that train, before each optimizer step."""

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return the results after *steps* optimizer steps with *learning_rate*."""


LOCAL_RULES: Mapping[type[StrategySpec], Callable[[LocalStart], LocalRule]] = {}
"""Makes the local rule of each strategy that has one."""


def local_rule(start: LocalStart) -> LocalRule | None:
    """Return the local rule of the strategy of a run; None if it does not change the training."""
    make = LOCAL_RULES.get(type(start.spec.strategy))
    return None if make is None else make(start)
