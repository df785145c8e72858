"""Compare local training with a plain PyTorch loop.

Both train the same model from the same parameters on the same batches in the same order, with one thread, in
turns. Ours does all that a worker does after each batch; the plain one uses `torch.optim.SGD`, and gets
float32 examples where the task keeps uint8. Their results must be equal, up to rounding. Examples that are not
tensors in memory come from a `DataLoader` in both.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from p2pfl.cards import Agreement
from p2pfl.learning import models, training
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.catalogue import make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.loader import LoaderBatches
from p2pfl.learning.objective import Classification
from p2pfl.learning.pacer import Pacer
from p2pfl.learning.task import Scaling, load_task
from p2pfl.learning.worker import Inbox
from p2pfl.spec import LocalTraining
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure

SEED = 7

IMAGE = models.ImageShape(1, 28, 28)

CPU = torch.device("cpu")

BareEpoch = Callable[[Tensor], Iterable[tuple[Tensor, Tensor]]]
"""Returns the batches of an epoch of the plain loop for the order of the examples [examples] int64."""


@dataclass(frozen=True)
class Case:
    """A model, and the training data of one member."""

    name: str
    module: nn.Module
    batches: Callable[[], Batches]
    bare_epoch: Callable[[], BareEpoch]
    options: LocalTraining
    budget: float


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the time of our loop divided by that of the plain one, for each case."""
    torch.set_num_threads(1)
    times = 3 if settings.is_quick else 5
    for case in cases():
        turns = [one_turn(case) for _ in range(times + 1)][1:]  # the first one warms up
        ours, bare = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(one / other for one, other in turns)
        yield Figure(
            f"local training against a bare loop, {case.name}",
            ratio,
            budget=case.budget,
            note=f"{ours:.2f} s and {bare:.2f} s, median of {times} turns",
        )


def cases() -> Iterator[Case]:
    options = make_spec("digits", {"model": "cnn"})
    task = load_task(options)
    data = task.load(DataPlaces())
    rows = torch.arange(0, len(data.train_y), 4)  # one of four members
    digits = TensorBatches(data.train_x, data.train_y, rows, data.scaling)
    yield tensor_case("digits cnn", task.build("cnn"), digits, options.training)
    for name, build, samples in (("2nn", models.two_layers, 6400), ("cnn", models.convolutional, 640)):
        options = make_spec("fashion-mnist", {"model": name})
        yield tensor_case(f"28x28 {name}", build(IMAGE, 10), images(samples), options.training)
    for workers in (0, 2):
        yield loader_case(workers, models.two_layers(IMAGE, 10), make_spec("fashion-mnist", {}).training)


def tensor_case(name: str, module: nn.Module, part: TensorBatches, options: LocalTraining) -> Case:
    """Return the case of examples in memory."""

    def bare_epoch() -> BareEpoch:
        x = (part.x if part.scaling is None else part.scaling(part.x))[part.rows]
        y = part.y[part.rows]
        return lambda order: ((x[batch], y[batch]) for batch in torch.split(order, options.batch_size))

    return Case(name, module, lambda: part, bare_epoch, options, budget=1.15)


def loader_case(workers: int, module: nn.Module, options: LocalTraining) -> Case:
    """Return the case of examples that a `DataLoader` reads with *workers* processes."""
    pictures = Pictures(images(6400))

    def bare_epoch() -> BareEpoch:
        def batches(order: Tensor) -> DataLoader[Any]:
            numbers = [batch.tolist() for batch in torch.split(order, options.batch_size)]
            return DataLoader(pictures, batch_sampler=numbers, num_workers=workers)

        return batches

    name = f"DataLoader with {workers} processes"
    return Case(name, module, lambda: LoaderBatches(pictures, CPU, workers=workers), bare_epoch, options, 1.1)


class Pictures(Dataset[Any]):
    """Pictures that are scaled one by one, as a folder of them is."""

    def __init__(self, part: TensorBatches) -> None:
        self._part = part

    def __len__(self) -> int:
        return self._part.examples

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return (self._part.x[number].float() / 255 - 0.5) / 0.3, int(self._part.y[number])


def images(samples: int) -> TensorBatches:
    """Return random images in the form of the image tasks: their values do not affect the time of a batch."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randint(0, 256, (samples, *IMAGE), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (samples,), generator=generator)
    return TensorBatches(x, y, torch.arange(samples), Scaling.normalising([0.5], [0.3]))


def one_turn(case: Case) -> tuple[float, float]:
    """Return the seconds of our loop and of the plain one; check that they give the same model."""
    ours, bare = copy.deepcopy(case.module), copy.deepcopy(case.module)
    objective = Classification(Agreement(tuple("0123456789"), 60000))
    began = time.perf_counter()
    inbox = Inbox()
    batches = case.batches()
    training.train(
        ours,
        batches,
        objective,
        case.options,
        seed=SEED,
        after_batch=Pacer(1, lambda _: None, lambda: inbox.is_stopped(1)),
    )
    our_seconds = time.perf_counter() - began
    examples, epoch = batches.examples, case.bare_epoch()
    del batches  # ends its processes
    began = time.perf_counter()
    train_bare(bare, examples, epoch, case.options)
    bare_seconds = time.perf_counter() - began
    for one, other in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    return our_seconds, bare_seconds


def train_bare(module: nn.Module, examples: int, epoch: BareEpoch, options: LocalTraining) -> None:
    """Train as PyTorch's tutorials do, with the order of examples of `p2pfl.learning.training`."""
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )
    generator = torch.Generator().manual_seed(SEED)
    module.train()
    for _ in range(options.epochs):
        for x, y in epoch(torch.randperm(examples, generator=generator)):
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            optimizer.step()


if __name__ == "__main__":
    run("training", measure)
