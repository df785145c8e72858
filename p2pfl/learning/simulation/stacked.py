"""Some clients at once: copies of a small model in one module, which takes their batches as one.

A step of a small model takes torch longer to begin than to compute. The parameters of a *stack* are those of
all its clients, [clients, ...], and each of its layers computes for all of them in one call. A batch has the
examples of the first client, then those of the second, and so on. The gradients of different clients do not
touch each other, so optimizers that change each element by itself need not know of it.

Sums are added in another order than in the training of one client, so the last bits may differ.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.errors import TaskError
from p2pfl.learning.batches import TensorBatches, call_model
from p2pfl.learning.objective import Objective
from p2pfl.learning.optimizers import build_optimizer
from p2pfl.learning.training import batch_sizes, planned_steps, seed_torch
from p2pfl.spec import LocalTraining

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference between outputs of a stack and of single models, in relation to the largest output."""


class _StackedLinear(nn.Module):
    """`nn.Linear` of several clients."""

    def __init__(self, layer: nn.Linear, clients: int) -> None:
        super().__init__()
        self.weight = _copies(layer.weight, clients)  # [clients, out, in]
        self.bias = _bias(layer, clients)

    def forward(self, x: Tensor) -> Tensor:
        """Return [clients * batch, ..., out] for [clients * batch, ..., in]."""
        weight = self.weight.transpose(1, 2)
        of_clients = x.reshape(len(weight), -1, x.shape[-1])
        if self.bias is None:
            found = torch.bmm(of_clients, weight)
        else:
            found = torch.baddbmm(self.bias.unsqueeze(1), of_clients, weight)
        return found.reshape(*x.shape[:-1], weight.shape[-1])


class _StackedConv2d(nn.Module):
    """`nn.Conv2d` of several clients: a convolution in which their channels are groups."""

    def __init__(self, layer: nn.Conv2d, clients: int) -> None:
        super().__init__()
        self.weight = _copies(layer.weight, clients)  # [clients, out, in / groups, height, width]
        self.bias = _bias(layer, clients)
        self._settings: tuple[Any, ...] = (
            layer.stride, layer.padding, layer.dilation, clients * layer.groups,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return [clients * batch, out, height, width] for [clients * batch, in, height, width]."""
        clients = len(self.weight)
        side_by_side = x.view(clients, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
        bias = self.bias.flatten() if self.bias is not None else None
        found = functional.conv2d(side_by_side, self.weight.flatten(0, 1), bias, *self._settings)
        return found.view(len(found), clients, -1, *found.shape[2:]).transpose(0, 1).flatten(0, 1)


def stacking_flaw(module: nn.Module) -> str:
    """Return why *module* cannot be stacked, as half a sentence; empty if nothing is known against it."""
    for part in module.modules():
        name = type(part).__name__
        if type(part) is nn.Conv2d and part.padding_mode != "zeros":
            return f"a Conv2d of the model is padded with {part.padding_mode!r}"
        if isinstance(part, nn.modules.dropout._DropoutNd):  # noqa: SLF001  the only common base class
            return f"the model has a layer {name}, whose random numbers would be others"
        has_own = any(one is not None for one in (*part._parameters.values(), *part._buffers.values()))  # noqa: SLF001
        if has_own and type(part) not in (nn.Linear, nn.Conv2d):
            return f"the model has a layer {name}, and only Linear and Conv2d may have tensors"
    named = list(module.named_parameters(remove_duplicate=False))
    if len(named) != len(list(module.parameters())):
        return "two layers of the model share a tensor"
    if not all(one.requires_grad for _, one in named):
        return "some parameters of the model do not train"
    return ""


def stack(module: nn.Module, clients: int) -> nn.Module:
    """Return a stack of as many *clients*, each with the parameters of *module*; the names are the same."""

    def stacked(part: nn.Module) -> nn.Module:
        if isinstance(part, nn.Linear):
            return _StackedLinear(part, clients)
        if isinstance(part, nn.Conv2d):
            return _StackedConv2d(part, clients)
        for name, child in part.named_children():
            setattr(part, name, stacked(child))
        return part

    return stacked(copy.deepcopy(module))


@torch.no_grad()
def check_stacking(module: nn.Module, parts: Sequence[TensorBatches], size: int) -> None:
    """Compare a stack with copies of *module* on the first *size* examples of each of *parts*.

    Their parameters are moved a little, since outputs of zeros would tell nothing. Numbers of the examples
    and of the outputs that are not finite count as 0: they tell nothing about the model.

    Raises:
        TaskError: the outputs differ: the model does more with a batch than its layers do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        alone = copy.deepcopy(module).train()
        for parameter in alone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape).to(parameter))
        together = stack(alone, len(parts)).train()
        batches = [_finite(part.batch(part.rows[:size])[0]) for part in parts]
        apart = [call_model(alone, one) for one in batches]  # a fault of the model itself is told as such
        try:
            wanted = _finite(torch.cat(apart))
            difference = (_finite(call_model(together, torch.cat(batches))) - wanted).abs().max()
            is_same = bool(difference <= TOLERANCE * wanted.abs().max())
        except Exception:  # the user's own forward may raise anything
            logger.debug("the model cannot be stacked", exc_info=True)
            is_same = False
    if not is_same:
        raise TaskError(
            "vectorised cannot be used here: the model has other outputs if the examples of several clients "
            "are in one batch; leave it out."
        )


def load_stack(stacked: nn.Module, module: nn.Module) -> None:
    """Give each client of *stacked* the parameters of *module*."""
    with torch.no_grad():
        for ours, theirs in zip(stacked.parameters(), module.parameters(), strict=True):
            ours.copy_(theirs)


def train_stack(
    stacked: nn.Module,
    parts: Sequence[TensorBatches],
    objective: Objective,
    options: LocalTraining,
    seeds: Sequence[int],
) -> tuple[int, Tensor]:
    """Train *stacked* on *parts* of equal length, one for each client; return steps and losses, [clients].

    The losses are the means of the last epoch. *seeds* determine the order of the examples of each client,
    and the first one the random numbers that the loss may draw.
    """
    parameters = list(stacked.parameters())
    seed_torch(seeds[0], parameters[0].device)
    optimizer = build_optimizer(parameters, options)
    stacked.train()
    sizes = batch_sizes(parts[0].examples, options.batch_size)
    total = planned_steps(parts[0].examples, options)
    clients = len(parts)
    summed, seen = torch.zeros(clients, device=parameters[0].device), 0
    for done, rows in enumerate(itertools.islice(_rows(parts, sizes, seeds), total), start=1):
        if (total - done + 1) % len(sizes) == 0:  # an epoch begins, perhaps the last one
            summed, seen = torch.zeros_like(summed), 0
        inputs, targets, _ = parts[0].batch(rows.flatten())
        outputs = call_model(stacked, inputs)
        losses = objective.losses(outputs, targets, clients)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        summed.add_(losses.detach(), alpha=rows.shape[1])
        seen += rows.shape[1]
    return total, summed / seen


def _finite(numbers: Tensor) -> Tensor:
    """Return *numbers* with 0 in place of NaN and infinite ones."""
    return numbers.nan_to_num(0.0, 0.0, 0.0)


def _rows(parts: Sequence[TensorBatches], sizes: list[int], seeds: Sequence[int]) -> Iterator[Tensor]:
    """Yield the rows of the examples of batches, [clients, batch], epoch after epoch."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        pairs = zip(parts, generators, strict=True)
        orders = torch.stack([part.shuffled_rows(generator) for part, generator in pairs])
        yield from torch.split(orders, sizes, dim=1)


def _copies(parameter: Tensor, clients: int) -> nn.Parameter:
    return nn.Parameter(parameter.detach().expand(clients, *parameter.shape).clone())


def _bias(layer: nn.Linear | nn.Conv2d, clients: int) -> nn.Parameter | None:
    """Return the bias of a layer of a stack: [clients, out]; None without one."""
    bias: Tensor | None = layer.bias
    return _copies(bias, clients) if bias is not None else None
