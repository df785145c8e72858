"""Local training and evaluation: plain loops over tensors that live on the device.

SGD is written out here as the paper does it: the first `torch.optim.SGD` a process makes imports the compiler
of torch, 1.6 seconds and 150 MB. The arithmetic is that of `torch.optim.SGD` (momentum without dampening,
weight decay added to the gradient).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from blake3 import blake3
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.errors import TaskError
from p2pfl.learning.task import Scaling
from p2pfl.spec import LocalTraining

EVALUATION_BATCH = 256
"""Samples evaluated at a time: with 512, the activations of a convolution on 28x28 leave the processor's
cache and it takes a third longer; with 128, small models do."""

BOUNDLESS_LOSS = 1e300
"""Reported for a loss that is not finite: messages carry finite numbers only."""

AfterBatch = Callable[[int, int], None]
"""Told (batches done, batches in all) after each batch; ends the training by raising."""


def choose_device(wish: str) -> torch.device:
    """Return the device called *wish*; "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        TaskError: this machine, or this build of torch, has no such device.
    """
    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wish)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise TaskError(
            f"The device {wish!r} cannot be used here ({str(error).splitlines()[0]}); "
            "use --device auto or cpu."
        ) from error
    return device


def describe_device(device: torch.device) -> str:
    """Return a device's name for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def derive_seed(*parts: str | int) -> int:
    """Return a seed in 0..2**63-1 that depends on all *parts*, the same on every machine."""
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(blake3(text).digest(8), "big") >> 1


class Sgd:
    """Stochastic gradient descent with momentum and weight decay, in place."""

    def __init__(self, parameters: Iterable[nn.Parameter], options: LocalTraining) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._velocities: list[Tensor | None] = [None] * len(self._parameters)
        self._options = options

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients, and forget these."""
        options = self._options
        for position, parameter in enumerate(self._parameters):
            gradient = parameter.grad
            if gradient is None:  # not part of this batch's computation
                continue
            parameter.grad = None
            if options.weight_decay:
                gradient.add_(parameter, alpha=options.weight_decay)
            if options.momentum:
                velocity = self._velocities[position]
                if velocity is None:
                    self._velocities[position] = gradient  # ours alone from here on
                else:
                    gradient = velocity.mul_(options.momentum).add_(gradient)
            parameter.add_(gradient, alpha=-options.learning_rate)


@dataclass(frozen=True)
class Part:
    """What one device trains on: some rows of tensors it shares with nobody, all on one device."""

    x: Tensor
    """[samples, ...]"""
    y: Tensor
    """[samples] int64."""
    rows: Tensor
    """[part] int64: the rows of *x* and *y* that belong to the part."""
    scaling: Scaling | None = None
    """What is done to each batch of *x* before the model gets it."""


def train(
    module: nn.Module, part: Part, options: LocalTraining, *, epochs: int, seed: int, after_batch: AfterBatch
) -> tuple[int, float]:
    """Train *module* on *part* for *epochs*; return the optimizer steps and the last epoch's mean loss.

    *seed* decides the order of samples, and dropout.

    Raises:
        TaskError: the loss is not finite any more.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = Sgd(module.parameters(), options)
    module.train()
    sizes = batch_sizes(len(part.rows), options.batch_size)
    done = 0
    summed = torch.zeros((), device=part.x.device)
    for _ in range(epochs):
        summed.zero_()
        order = part.rows[torch.randperm(len(part.rows), generator=generator).to(part.rows.device)]
        for batch in torch.split(order, sizes):  # [batch] int64
            x = part.x[batch]  # a copy: what is done to it does not change the data
            logits = module(x if part.scaling is None else part.scaling(x))  # [batch, classes]
            loss = functional.cross_entropy(logits, part.y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            summed.add_(loss.detach(), alpha=len(batch))
            done += 1
            after_batch(done, len(sizes) * epochs)
    mean = summed.item() / len(part.rows)
    if not math.isfinite(mean):
        raise TaskError(f"Training diverged: the loss became {mean}; use a smaller --lr.")
    return done, mean


def batch_sizes(samples: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches.

    A last batch of one sample joins the one before it: batch normalisation cannot learn from one.
    """
    full, rest = divmod(samples, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if rest == 1 and full:
        sizes[-2:] = [batch_size + 1]
    return sizes


@torch.no_grad()
def evaluate(module: nn.Module, x: Tensor, y: Tensor, scaling: Scaling | None = None) -> dict[str, float]:
    """Return the sums over the rows of *x*: how many are classified as *y* says, and the cross-entropy."""
    module.eval()
    correct, loss = 0, 0.0
    for inputs, labels in zip(
        torch.split(x, EVALUATION_BATCH), torch.split(y, EVALUATION_BATCH), strict=True
    ):
        logits = module(inputs if scaling is None else scaling(inputs))  # [batch, classes]
        correct += int((logits.argmax(1) == labels).sum())
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return {"accuracy": float(correct), "loss": loss if math.isfinite(loss) else BOUNDLESS_LOSS}
