"""Compare local training with a plain PyTorch loop.

Both train the same model from the same parameters on the same batches in the same order, with one thread, in
turns. Ours does all that a worker does after each batch; the plain one uses `torch.optim.SGD`, and gets
float32 examples where the task keeps uint8. Their results must be equal, up to rounding.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.learning import models, training
from p2pfl.learning.catalogue import make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import _Pacer
from p2pfl.learning.task import Scaling, load_task
from p2pfl.learning.worker import Inbox
from p2pfl.spec import LocalTraining, RunSpec
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure

SEED = 7

IMAGE = models.ImageShape(1, 28, 28)


@dataclass(frozen=True)
class Case:
    """A model, and the training data of one member."""

    name: str
    module: nn.Module
    partition: training.Partition
    spec: RunSpec


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
            budget=1.15,
            note=f"{ours:.2f} s and {bare:.2f} s, median of {times} turns",
        )


def cases() -> Iterator[Case]:
    spec = make_spec("digits", {"model": "cnn"})
    task = load_task(spec)
    data = task.load(DataPlaces())
    rows = torch.arange(0, len(data.train_y), 4)  # one of four members
    yield Case(
        "digits cnn",
        task.build("cnn"),
        training.Partition(data.train_x, data.train_y, rows, data.scaling),
        spec,
    )
    for name, build, samples in (("2nn", models.two_layers, 6400), ("cnn", models.convolutional, 640)):
        spec = make_spec("fashion-mnist", {"model": name})
        yield Case(f"28x28 {name}", build(IMAGE, 10), images(samples), spec)


def images(samples: int) -> training.Partition:
    """Return random images in the form of the image tasks: their values do not affect the time of a batch."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randint(0, 256, (samples, *IMAGE), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (samples,), generator=generator)
    return training.Partition(x, y, torch.arange(samples), Scaling.normalising([0.5], [0.3]))


def one_turn(case: Case) -> tuple[float, float]:
    """Return the seconds of our loop and of the plain one; check that they give the same model."""
    ours, bare = copy.deepcopy(case.module), copy.deepcopy(case.module)
    began = time.perf_counter()
    inbox = Inbox()
    training.train(
        ours,
        case.partition,
        case.spec.training,
        epochs=case.spec.training.epochs,
        seed=SEED,
        after_batch=_Pacer(1, lambda _: None, lambda: inbox.is_stopped(1)),
    )
    our_seconds = time.perf_counter() - began
    partition = case.partition
    x = partition.x if partition.scaling is None else partition.scaling(partition.x)
    began = time.perf_counter()
    train_bare(bare, x[partition.rows], partition.y[partition.rows], case.spec.training)
    bare_seconds = time.perf_counter() - began
    for one, other in zip(ours.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    return our_seconds, bare_seconds


def train_bare(module: nn.Module, x: Tensor, y: Tensor, spec: LocalTraining) -> None:
    """Train as PyTorch's tutorials do, with the order of examples of `p2pfl.learning.training`."""
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
    )
    generator = torch.Generator().manual_seed(SEED)
    module.train()
    for _ in range(spec.epochs):
        for batch in torch.split(torch.randperm(len(x), generator=generator), spec.batch_size):
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(x[batch]), y[batch])
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            optimizer.step()


if __name__ == "__main__":
    run("training", measure)
