"""Compare a loop of `p2pfl.rounds` with the same loop bare.

Both train the same model on the same batches with one thread, in turns: an ordinary loop with a `DataLoader`
and `torch.optim.SGD`. In a turn of ours, a node in a thread of this process asks for a training; its time
ends when the node has the update. So it has the reading of the weights, the writing of the update and the
messages in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from p2pfl.learning import models, weights
from p2pfl.learning.process import Worker
from p2pfl.learning.scripts.frames import TrainerEndpoint
from p2pfl.learning.scripts.rounds import rounds
from p2pfl.learning.scripts.trainer import TrainerWorker
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure
from tests.support.trainers import ThreadedNode, threaded_node, training

SEED = 7

IMAGE = models.ImageShape(1, 28, 28)

CASES = (("2nn", models.two_layers, 6400), ("cnn", models.convolutional, 640))
"""Name, builder, and number of examples of an epoch."""


class Handle:
    """The node of the bench, as `p2pfl.rounds` takes it."""

    def __init__(self, endpoint: TrainerEndpoint) -> None:
        self._endpoint = endpoint

    def trainer(self) -> TrainerEndpoint:
        return self._endpoint

    def why_ended(self) -> str:
        return "The bench is over."


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the time of a round of ours divided by that of a bare epoch, for each model."""
    torch.set_num_threads(1)
    times = 3 if settings.is_quick else 7
    for name, build, examples in CASES:
        torch.manual_seed(SEED)
        module, loader = build(IMAGE, 10), images(examples)
        with tempfile.TemporaryDirectory() as folder, threaded_node(Path(folder)) as node:
            turns = list(take_turns(node, module, loader, times))
        ours, bare = (statistics.median(column) for column in zip(*turns, strict=True))
        yield Figure(
            f"round of a script against a bare loop, 28x28 {name}",
            statistics.median(one / other for one, other in turns),
            budget=1.05,
            note=f"{ours:.2f} s and {bare:.2f} s, median of {times} turns",
        )


def images(examples: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return random images: their values do not affect the time of a batch."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand((examples, IMAGE.channels, IMAGE.height, IMAGE.width), generator=generator)
    y = torch.randint(0, 10, (examples,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)


def take_turns(
    node: ThreadedNode, module: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]], times: int
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of a round and of a bare epoch; the first turn only warms up."""
    worker = TrainerWorker(Worker(), node.server)
    parent = weights.save(node.folder / "new", module)
    (node.folder / "new").rename(node.folder / parent)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    loop = rounds(module, node=Handle(node.server.endpoint))
    with closing(loop):
        for turn in range(times + 1):
            began = time.perf_counter()
            asked = node.begin(
                worker.train(training(parent, trained=turn), node.folder, node.folder / "update")
            )
            round_ = next(loop)
            train_epoch(module, loader, optimizer)
            round_.submit(examples=len(loader.dataset))  # type: ignore[arg-type]  # a data set with a length
            asked.result()
            ours = time.perf_counter() - began
            began = time.perf_counter()
            train_epoch(module, loader, optimizer)
            if turn:
                yield ours, time.perf_counter() - began


def train_epoch(
    module: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]], optimizer: torch.optim.Optimizer
) -> None:
    """Train as PyTorch's tutorials do."""
    module.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimizer.step()


if __name__ == "__main__":
    run("script", measure)
