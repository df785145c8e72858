"""Local training and evaluation: plain loops over the batches of a device.

SGD is implemented here because the first `torch.optim.SGD` of a process imports torch's compiler, which takes
1.6 seconds and 150 MB. The arithmetic is that of `torch.optim.SGD`, momentum without dampening. For gradient
g, parameter p and velocity v, a step is: g += weight_decay * p; v = momentum * v + g; p -= learning_rate * v.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.objective import Objective
from p2pfl.messages import ClassCount, Evaluation
from p2pfl.spec import LocalTraining

EVALUATION_BATCH = 256
"""Examples in an evaluation batch. With 512, the activations of a convolution on 28x28 do not fit the
processor's cache, and evaluation takes a third longer; with 128, small models take longer."""

NON_FINITE = 1e300
"""Reported in place of a sum that is not finite: messages carry only finite numbers."""

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


def train(
    module: nn.Module,
    batches: Batches,
    objective: Objective,
    options: LocalTraining,
    *,
    seed: int,
    after_batch: AfterBatch,
) -> tuple[int, float]:
    """Train *module* on *batches*; return the optimizer steps and the last epoch's mean loss.

    *seed* determines the order of the examples and the dropout.

    Raises:
        TaskError: the training diverged: the loss of the last epoch is not finite.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = Sgd(module.parameters(), options)
    module.train()
    sizes = batch_sizes(batches.examples, options.batch_size)
    done, mean = 0, math.nan
    for _ in range(options.epochs):
        summed = torch.zeros(())
        for inputs, targets, count in batches.shuffled(sizes, generator):
            loss = objective.loss(module(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            summed = summed.to(loss.device).add_(loss.detach(), alpha=count)
            done += 1
            after_batch(done, len(sizes) * options.epochs)
        mean = summed.item() / batches.examples
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
def evaluate(module: nn.Module, batches: Batches, objective: Objective) -> Evaluation:
    """Return the sums of the metrics of *module* over all examples of *batches*."""
    module.eval()
    sums = dict.fromkeys(objective.measures.metrics, 0.0)
    counts: Tensor | None = None
    for inputs, targets, _ in batches.ordered(EVALUATION_BATCH):
        outputs = module(inputs)
        for name, value in objective.sums(outputs, targets).items():
            sums[name] += value
        counted = objective.counts(outputs, targets)
        if counted is not None:
            counts = counted if counts is None else counts + counted
    classes = () if counts is None else tuple(ClassCount(*row) for row in counts.tolist())
    finite = {name: value if math.isfinite(value) else NON_FINITE for name, value in sums.items()}
    return Evaluation(batches.examples, finite, classes)
