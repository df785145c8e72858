"""The part of a strategy that runs on each device: it changes the gradients of the local training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from p2pfl.learning.batches import Batches
from p2pfl.learning.objective import Objective
from p2pfl.learning.slots import Slots, slot_dtype
from p2pfl.spec import RunSpec


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
    """What this device remembers of the run, by name; empty at first. Names are those of `in_memory`."""
    shared: Collection[str] | None = None
    """Names of the tensors that devices exchange; None: all. Gradients of other tensors are not corrected:
    each device has its own, so there is no difference between devices to correct."""


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
        """Change gradients of *parameters*, those that train, before each optimizer step."""

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return the results after *steps* optimizer steps with *learning_rate*."""


def corrected_parameters(start: LocalStart) -> dict[str, nn.Parameter]:
    """Return the parameters that train and are exchanged, by name; only their gradients are corrected.

    A parameter with two names has its first one here.
    """
    return {
        name: value
        for name, value in start.module.named_parameters()
        if value.requires_grad and (start.shared is None or name in start.shared)
    }


def in_memory(slot: str, name: str) -> str:
    """Return the name in a device's memory for *slot* of the tensor *name*, such as "control/out.bias"."""
    return f"{slot}/{name}"


def recalled(start: LocalStart, slot: str) -> dict[str, Tensor]:
    """Return what this device remembers in *slot* of each corrected parameter; zeros if it is nothing."""
    found: dict[str, Tensor] = {}
    for name, parameter in corrected_parameters(start).items():
        zeros = torch.zeros(parameter.shape, dtype=slot_dtype(parameter.dtype), device=parameter.device)
        known = start.memory.get(in_memory(slot, name))
        found[name] = zeros if known is None else known.to(zeros)
    return found
