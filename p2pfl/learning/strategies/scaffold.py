"""SCAFFOLD: control variates take the difference between members out of each local step.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (2020), algorithm 1.
Each device remembers its control variate c_i, an estimate of its own gradient. The server's c, the mean of
all c_i, is the state. A local step goes along `g - c_i + c`, and an update's control is the change of c_i. As
in the paper, members count alike whatever their number of examples. Buffers are averaged by examples.

**The new c_i** is option II in a form that holds for every optimizer: the mean of the gradients g over the
local steps. The paper has `c_i - c + (x - y_i) / (K eta)`. With plain SGD `x - y_i` is eta times the sum of
`g - c_i + c`, so this is the same mean. With momentum, Adam, weight decay or clipped gradients, the movement
of the parameters is not a multiple of the gradients, but their mean still estimates the gradient.

The roster's size stands for the number N of clients. If it changes, or a device has lost its memory, c is no
longer the exact mean of all c_i.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from p2pfl.learning.strategies.changes import AmongMembers, mean_change
from p2pfl.learning.strategies.elementwise import UpdatePieces
from p2pfl.learning.strategies.local import (
    LocalEnd,
    LocalStart,
    corrected_parameters,
    in_memory,
    recalled,
)
from p2pfl.strategy_specs import ScaffoldSpec

SLOT = "control"
"""The slot of the state, of the control of an update, and of the memory."""


class Scaffold(AmongMembers):
    """The server's part."""

    slots: ClassVar[tuple[str, ...]] = (SLOT,)

    def __init__(self, spec: ScaffoldSpec) -> None:
        self._rate = spec.server_lr

    def combine(
        self, parent: Tensor, updates: UpdatePieces, weights: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the moved elements and the server's control."""
        assert state is not None
        moved = parent + self._rate * mean_change(parent, updates, torch.ones_like(weights))  # x
        control = state.clone()
        for change in updates.controls():  # [1, elements]: c_i+ - c_i
            control.add_(change, alpha=1 / self.members)  # c <- c + |S|/N * mean of all changes
        return moved, control


class ScaffoldRule:
    """The device's part."""

    def __init__(self, start: LocalStart) -> None:
        server, before = start.state()[SLOT], recalled(start, SLOT)
        self._parameters = corrected_parameters(start)
        self._before = before  # c_i
        self._corrections = [server[name].to(own) - own for name, own in before.items()]  # c - c_i
        self._sums = [torch.zeros_like(own) for own in before.values()]
        self._steps = 0

    @torch.no_grad()
    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Add each gradient to its sum, and `c - c_i` to the gradient of the local step."""
        self._steps += 1
        rows = zip(self._parameters.values(), self._sums, self._corrections, strict=True)
        for parameter, total, correction in rows:
            if parameter.grad is not None:
                total.add_(parameter.grad)
                parameter.grad.add_(correction)

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:
        """Return the new c_i as the memory, and its change as the control."""
        means = dict(zip(self._before, self._sums, strict=True))
        if self._steps:
            for total in self._sums:
                total.div_(self._steps)
        else:  # all were left out since their gradients were not finite
            means = self._before
        return LocalEnd(
            control={SLOT: {name: mean - self._before[name] for name, mean in means.items()}},
            memory={in_memory(SLOT, name): mean for name, mean in means.items()},
        )
