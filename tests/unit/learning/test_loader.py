from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from p2pfl.errors import TaskError
from p2pfl.learning.loader import LoaderBatches

CPU = torch.device("cpu")


class Squares(Dataset[Any]):
    """Example i is (i, i * i)."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.tensor([float(number)]), number * number


class Items(Dataset[Any]):
    """Given examples."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Any:
        return self._items[number]


class Noise(Dataset[Any]):
    """Each example is random in three ways."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.tensor([torch.rand(()).item(), random.random(), np.random.rand()]), number


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_every_example_once_in_batches_of_the_given_sizes(workers: int) -> None:
    batches = LoaderBatches(Squares(), CPU, workers=workers)
    assert batches.examples == 10
    generator, epochs = _generator(), []
    for _ in range(2):
        loaded = list(batches.shuffled([4, 4, 2], generator))
        assert [count for *_, count in loaded] == [len(x) for x, *_ in loaded] == [4, 4, 2]
        assert all(torch.equal(x[:, 0] ** 2, y) for x, y, _ in loaded)
        epochs.append(torch.cat([x[:, 0] for x, *_ in loaded]).tolist())
    assert epochs[0] != epochs[1]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] == torch.randperm(10, generator=_generator()).tolist()
    ordered = list(batches.ordered(4))
    assert [count for *_, count in ordered] == [4, 4, 2]
    assert torch.cat([x[:, 0] for x, *_ in ordered]).tolist() == list(range(10))


def test_an_epoch_that_was_left_early_does_not_leak_into_the_next() -> None:
    batches = LoaderBatches(Squares(), CPU, workers=2)
    next(iter(batches.shuffled([2] * 5, _generator())))
    assert [int(x[0]) for x, *_ in batches.ordered(1)] == list(range(10))


def test_random_transforms_depend_on_the_seed_and_not_on_the_workers() -> None:
    def drawn(workers: int, seed: int) -> Tensor:
        batches = LoaderBatches(Noise(), CPU, workers=workers)
        list(batches.shuffled([5, 7], _generator(99)))  # what was loaded before does not matter
        return torch.cat([x for x, *_ in batches.shuffled([5, 7], _generator(seed))])

    alone = drawn(0, seed=1)
    assert torch.equal(alone, drawn(2, seed=1))
    assert not (alone == drawn(0, seed=2)).any()
    assert len(set(alone.flatten().tolist())) == 36


def test_loading_does_not_change_the_numbers_that_dropout_draws() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    for workers in (0, 1):
        torch.manual_seed(3)
        list(LoaderBatches(Noise(), CPU, workers=workers).shuffled([6, 6], _generator()))
        assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("target", "dtype"),
    [
        (3, torch.int64),
        (True, torch.int64),
        (np.int32(3), torch.int64),
        (2.5, torch.float32),
        (np.array([2.5]), torch.float32),
        (torch.tensor([2.5]), torch.float32),
        (torch.ones(2, 2, dtype=torch.uint8), torch.uint8),
        (torch.ones(2, 2, dtype=torch.int64), torch.int64),
    ],
)
def test_targets_have_the_type_of_a_loss(target: Any, dtype: torch.dtype) -> None:
    batches = LoaderBatches(Items(*[(torch.zeros(1), target)] * 2), CPU)
    [(_, targets, count)] = batches.ordered(2)
    assert (targets.dtype, count) == (dtype, 2)
    assert torch.equal(targets[0].double(), torch.as_tensor(target).double())


def test_inputs_are_moved_to_the_device_whatever_holds_them() -> None:
    meta = torch.device("meta")  # every machine has this device
    item = {"ids": torch.zeros(3), "parts": (torch.zeros(1), [torch.zeros(2)]), "name": "one"}
    [(inputs, targets, _)] = LoaderBatches(Items((item, 1)), meta).ordered(1)
    [first, [second]] = inputs["parts"]
    assert [one.device for one in (inputs["ids"], first, second, targets)] == [meta] * 4
    assert inputs["name"] == ["one"]


def test_an_own_collate_makes_the_batch() -> None:
    def collate(items: list[Any]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in items]) + 100, torch.tensor([y for _, y in items])

    x, y, _ = next(iter(LoaderBatches(Squares(), CPU, collate=collate).ordered(3)))
    assert (x.flatten().tolist(), y.tolist()) == ([100, 101, 102], [0, 1, 4])


def test_examples_that_are_no_pairs_are_refused() -> None:
    for item, found in (((1, 2, 3), "list of 3"), (1, "Tensor of 1"), ({"x": 1}, "dict of 1")):
        with pytest.raises(TaskError, match=rf"must be a pair \(input, target\).* is a {found}\."):
            list(LoaderBatches(Items(item), CPU).ordered(1))


class Stream(IterableDataset[Any]):
    """No example has a number."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Endless(Dataset[Any]):
    """Has no length."""


def test_data_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(TaskError, match=r"Stream is an IterableDataset.*__len__ and __getitem__"):
        LoaderBatches(Stream(), CPU)
    with pytest.raises(TaskError, match="Endless has no length"):
        LoaderBatches(Endless(), CPU)


def test_labels_are_those_that_the_caller_knows() -> None:
    assert LoaderBatches(Squares(), CPU).labels is None
    labels = torch.arange(10)
    assert LoaderBatches(Squares(), CPU, labels=labels).labels is labels


def test_a_data_set_that_fetches_whole_batches_is_asked_for_them() -> None:
    class Whole(Squares):
        def __getitems__(self, numbers: list[int]) -> list[Any]:
            return [(torch.tensor([-1.0]), number) for number in numbers]

    x, y, _ = next(iter(LoaderBatches(Whole(), CPU).ordered(2)))
    assert (x.flatten().tolist(), y.tolist()) == ([-1, -1], [0, 1])


def test_processes_stay_between_epochs_and_end_with_the_batches() -> None:
    before = set(multiprocessing.active_children())
    batches = LoaderBatches(Squares(), CPU, workers=2)
    list(batches.ordered(5))
    first = set(multiprocessing.active_children()) - before
    list(batches.shuffled([5, 5], _generator()))
    assert set(multiprocessing.active_children()) - before == first
    assert len(first) == 2
    del batches
    assert set(multiprocessing.active_children()) == before


class Deadly(Squares):
    """Reading an example kills the process that reads it, as a system without memory does."""

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)


def test_a_killed_process_is_told_in_a_sentence() -> None:
    with pytest.raises(TaskError, match=r"was killed.*fewer --workers"):
        list(LoaderBatches(Deadly(), CPU, workers=1).ordered(5))


class Broken(Squares):
    """An error of the user's code."""

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        raise RuntimeError("no such picture")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_set_is_raised_as_it_is(workers: int) -> None:
    with pytest.raises(RuntimeError, match="no such picture"):
        list(LoaderBatches(Broken(), CPU, workers=workers).ordered(5))


PROGRAM = """
import os, torch, multiprocessing
from torch.utils.data import TensorDataset
from p2pfl.learning.loader import LoaderBatches
batches = LoaderBatches(TensorDataset(torch.zeros(8, 1), torch.zeros(8)), torch.device("cpu"), workers=2)
next(iter(batches.ordered(2)))
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
input()
"""


def test_processes_die_with_a_killed_parent_and_at_once_on_linux() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        assert len(children) == 2
        process.kill()
        began = time.monotonic()
        assert process.stdout.read() == ""  # the pipe ends when the last process that holds it has ended
        # Torch's processes look for their parent every 5 s.
        assert sys.platform != "linux" or time.monotonic() - began < 3
        assert not psutil.wait_procs(children, timeout=30)[1]
