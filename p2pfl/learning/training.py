"""Local training and evaluation: plain loops over batches of tensors in the memory of the device.

SGD is implemented here because the first `torch.optim.SGD` of a process imports torch's compiler, which takes
1.6 seconds and 150 MB. The arithmetic is that of `torch.optim.SGD`, momentum without dampening. For gradient
g, parameter p and velocity v, a step is: g += weight_decay * p; v = momentum * v + g; p -= learning_rate * v.
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
"""Examples in an evaluation batch. With 512, the activations of a convolution on 28x28 do not fit the
processor's cache, and evaluation takes a third longer; with 128, small models take longer."""

NON_FINITE_LOSS = 1e300
"""Reported in place of a loss that is not finite: messages carry only finite numbers."""

AfterBatch = Callable[[int, int], None]
"""Called after each batch with (batches done, total batches); may raise to end the training."""


def choose_device(name: str) -> torch.device:
    """Return the torch device *name*; "auto" is CUDA if available, else MPS, else the CPU.

    Raises:
        TaskError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise TaskError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}); "
            "use --device auto or cpu."
        ) from error
    return device


def describe_device(device: torch.device) -> str:
    """Return the name of *device* for people, for example "cuda:0 (NVIDIA H200)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def derive_seed(*parts: str | int) -> int:
    """Return a seed from 0 to 2**63-1 that is a hash of *parts*, the same on every machine."""
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(blake3(text).digest(8), "big") >> 1


class Sgd:
    """Stochastic gradient descent with momentum and weight decay; updates parameters in place."""

    def __init__(self, parameters: Iterable[nn.Parameter], options: LocalTraining) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._velocities: list[Tensor | None] = [None] * len(self._parameters)
        self._options = options

    @torch.no_grad()
    def step(self) -> None:
        """Do one optimizer step and clear the gradients.

        With gradient g, parameter p and velocity v: g += weight_decay * p; v = momentum * v + g;
        p -= learning_rate * v.
        """
        options = self._options
        for position, parameter in enumerate(self._parameters):
            gradient = parameter.grad
            if gradient is None:  # the loss of this batch does not depend on the parameter
                continue
            parameter.grad = None
            if options.weight_decay:
                gradient.add_(parameter, alpha=options.weight_decay)
            if options.momentum:
                velocity = self._velocities[position]
                if velocity is None:
                    self._velocities[position] = gradient  # nothing else uses this tensor any more
                else:
                    gradient = velocity.mul_(options.momentum).add_(gradient)
            parameter.add_(gradient, alpha=-options.learning_rate)


@dataclass(frozen=True)
class Partition:
    """The training data of one partition: some rows of the whole training split."""

    x: Tensor
    """[examples, ...] of the whole split, as in `Data`."""
    y: Tensor
    """[examples] int64 of the whole split."""
    rows: Tensor
    """[examples of the partition] int64: indices into *x* and *y*; on the same device."""
    scaling: Scaling | None = None
    """Applied to each batch of *x* before the model; None: batches are used as they are."""


def train(
    module: nn.Module,
    partition: Partition,
    options: LocalTraining,
    *,
    epochs: int,
    seed: int,
    after_batch: AfterBatch,
) -> tuple[int, float]:
    """Train *module* on *partition* for *epochs*; return the optimizer steps and the last epoch's mean loss.

    *seed* determines the order of the examples and the dropout.

    Raises:
        TaskError: the training diverged: the loss of the last epoch is not finite.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = Sgd(module.parameters(), options)
    module.train()
    sizes = batch_sizes(len(partition.rows), options.batch_size)
    done = 0
    summed = torch.zeros((), device=partition.x.device)
    for _ in range(epochs):
        summed.zero_()
        shuffled = torch.randperm(len(partition.rows), generator=generator)
        order = partition.rows[shuffled.to(partition.rows.device)]
        for batch in torch.split(order, sizes):  # [batch] int64
            x = partition.x[batch]  # a copy: the model may change it
            logits = module(x if partition.scaling is None else partition.scaling(x))  # [batch, classes]
            loss = functional.cross_entropy(logits, partition.y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            summed.add_(loss.detach(), alpha=len(batch))
            done += 1
            after_batch(done, len(sizes) * epochs)
    mean = summed.item() / len(partition.rows)
    if not math.isfinite(mean):
        raise TaskError(f"Training diverged: the loss became {mean}; use a smaller --lr.")
    return done, mean


def batch_sizes(examples: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch.

    A last batch of one example is merged into the one before it: batch normalisation needs at least two.
    """
    full, rest = divmod(examples, batch_size)
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
    return {"accuracy": float(correct), "loss": loss if math.isfinite(loss) else NON_FINITE_LOSS}
