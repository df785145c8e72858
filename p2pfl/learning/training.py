"""Local training and evaluation: plain loops over the batches of a device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from blake3 import blake3
from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batch, Batches, call_model
from p2pfl.learning.exchange import keep_still
from p2pfl.learning.objective import Judge, Objective
from p2pfl.learning.optimizers import MakeOptimizer, Optimizer, build_optimizer
from p2pfl.learning.precision import choose_precision
from p2pfl.learning.strategies.local import LocalRule
from p2pfl.messages import ClassCount, Evaluation
from p2pfl.spec import LocalTraining

EVALUATION_BATCH = 256
"""Examples in an evaluation batch. With 512, the activations of a convolution on 28x28 do not fit the
processor's cache, and evaluation takes a third longer; with 128, small models take longer."""

NON_FINITE = 1e300
"""Reported in place of a sum that is not finite: messages carry only finite numbers."""


class DivergedError(TaskError):
    """The loss of a training became NaN or infinite."""


IsOver = Callable[[], bool]
"""Called after each batch; True ends the training, whose update has the batches so far."""

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


def planned_steps(examples: int, options: LocalTraining) -> int:
    """Return the number of optimizer steps of a training on *examples* that no deadline cuts."""
    return options.steps or len(batch_sizes(examples, options.batch_size)) * options.epochs


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the default generators of torch that are used on *device*.

    `torch.manual_seed` also seeds those of GPUs that are not in use, for which it formats three stack traces:
    2 ms, as long as 20 steps of a small model.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def train(
    module: nn.Module,
    batches: Batches,
    objective: Objective,
    options: LocalTraining,
    *,
    seed: int,
    after_batch: AfterBatch,
    make_optimizer: MakeOptimizer = build_optimizer,
    rule: LocalRule | None = None,
    is_over: IsOver | None = None,
) -> tuple[int, float]:
    """Train *module* on *batches*; return the optimizer steps and the last epoch's mean loss.

    *is_over* can end it before the last of the `planned_steps`, after one step at the earliest. The loss is
    then the mean of what was seen of the last epoch.

    *options* have the learning rate of the round (`p2pfl.learning.optimizers.scheduled`). *seed* determines
    the order of the examples and the dropout. *rule* is the local part of the strategy.

    Raises:
        DivergedError: the loss of the last epoch is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    device = parameters[0].device if parameters else torch.device("cpu")
    seed_torch(seed, device)
    optimizer = make_optimizer(parameters, options)
    precision = choose_precision(device, options.precision)
    module.train()
    keep_still(module)
    sizes = batch_sizes(batches.examples, options.batch_size)
    total = planned_steps(batches.examples, options)
    summed, seen, done = torch.zeros((), device=device), 0, 0
    for done, (inputs, targets, count) in enumerate(_epochs(batches, sizes, generator, total), start=1):
        if (total - done + 1) % len(sizes) == 0:  # an epoch begins, perhaps the last one
            summed, seen = torch.zeros((), device=device), 0
        with precision.autocast():
            loss = objective.loss(call_model(module, inputs), targets)
        _descend(loss, optimizer, parameters, options.clip, precision.scaler, rule)
        summed.add_(loss.detach(), alpha=count)
        seen += count
        after_batch(done, total)
        if is_over is not None:
            summed.item()  # waits for the batch: a GPU may be many batches behind
            if is_over():
                break
    mean = summed.item() / seen
    if not math.isfinite(mean):
        raise DivergedError(f"Training diverged: the loss became {mean}; use a smaller --lr.")
    return done, mean


def _epochs(batches: Batches, sizes: list[int], generator: torch.Generator, total: int) -> Iterator[Batch]:
    """Yield *total* batches, epoch after epoch."""
    epochs = (batches.shuffled(sizes, generator) for _ in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(epochs), total)


def _descend(
    loss: Tensor,
    optimizer: Optimizer,
    parameters: list[nn.Parameter],
    clip: float,
    scaler: torch.amp.GradScaler | None,
    rule: LocalRule | None,
) -> None:
    """Do one optimizer step; with a *scaler* it is left out if a gradient is not finite."""
    scaled = loss if scaler is None else scaler.scale(loss)
    scaled.backward()  # type: ignore[no-untyped-call]
    if scaler is not None and (clip or rule is not None):
        scaler.unscale_(cast(torch.optim.Optimizer, optimizer))
    if rule is not None and (scaler is None or _are_finite(parameters)):
        rule.correct(parameters)  # not where the scaler leaves the step out
    if clip:
        nn.utils.clip_grad_norm_(parameters, clip)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(cast(torch.optim.Optimizer, optimizer))
        scaler.update()
    optimizer.zero_grad()


def _are_finite(parameters: list[nn.Parameter]) -> bool:
    """Return whether the gradients of *parameters* are finite."""
    return all(one.grad is None or bool(one.grad.isfinite().all()) for one in parameters)


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
def evaluate(module: nn.Module, batches: Batches, objective: Judge) -> Evaluation:
    """Return the sums of the metrics of *module* over all examples of *batches*."""
    module.eval()
    sums = dict.fromkeys(objective.measures.metrics, 0.0)
    counts: Tensor | None = None
    for inputs, targets, _ in batches.ordered(EVALUATION_BATCH):
        outputs = call_model(module, inputs)
        for name, value in objective.sums(outputs, targets).items():
            sums[name] += value
        counted = objective.counts(outputs, targets)
        if counted is not None:
            counts = counted if counts is None else counts + counted
    classes = () if counts is None else tuple(ClassCount(*row) for row in counts.tolist())
    finite = {name: value if math.isfinite(value) else NON_FINITE for name, value in sums.items()}
    return Evaluation(batches.examples, finite, classes)
