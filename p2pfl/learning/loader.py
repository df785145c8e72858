"""Examples that are not tensors in memory: any map-style torch `Dataset`, read through a `DataLoader`.

The order of the examples comes from the generator of the training, not from the `DataLoader`, so it does not
depend on the number of loader processes. Random transforms do not depend on it either: each batch is loaded
with a seed of its own.

Loader processes stay until the `LoaderBatches` is deleted. On Linux they are forked, so a data set of a
user's file needs no pickling. The system kills them when this process dies in any way, because they hold its
pipes to the node open. On other systems they are spawned, and the data set must be picklable.
"""

from __future__ import annotations

import ctypes
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batch

Collate = Callable[[list[Any]], Any]
"""Returns (inputs, targets) of a batch for a list of examples, each (input, target)."""

EVALUATION_SEED = 0
"""Seed of the random transforms of examples in their order: every evaluation sees the same pictures."""

_PR_SET_PDEATHSIG = 1
"""Of `prctl` in Linux: the signal that a process gets when its parent dies."""

_Draw = tuple[int, list[int]]
"""A batch to load: its seed, and the numbers of its examples."""


class LoaderBatches:
    """All examples of a data set, loaded in batches; the `Batches` of data that are not in memory."""

    def __init__(
        self,
        dataset: Dataset[Any],
        device: torch.device,
        *,
        collate: Collate | None = None,
        workers: int = 0,
        labels: Tensor | None = None,
    ) -> None:
        """Load with *workers* processes beside this one, or with 0 in this one.

        *collate* is torch's `default_collate` if None. *labels* [examples] int64 are the classes of the
        examples, as far as the caller knows them without loading.

        Raises:
            TaskError: *dataset* has no length, or its examples have no numbers.
        """
        self._examples = _length(dataset)
        self.labels = labels
        self._device = device
        self._draws = _Draws()
        forks = workers > 0 and sys.platform == "linux"
        self._loader: DataLoader[Any] = DataLoader(
            _Seeded(dataset, is_forked=workers > 0),
            batch_sampler=self._draws,  # type: ignore[arg-type]  # a draw goes to `__getitems__` as it is
            collate_fn=collate or default_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context="fork" if forks else None,
            worker_init_fn=_die_with_parent if forks else None,
            generator=torch.Generator(),  # otherwise each epoch draws a number that the training draws from
        )

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self._examples

    def shuffled(self, sizes: list[int], generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in random order, in batches of *sizes*."""
        order = torch.split(torch.randperm(self._examples, generator=generator), sizes)
        seeds = torch.randint(2**62, (len(sizes),), generator=generator).tolist()
        return self._load([(seed, batch.tolist()) for seed, batch in zip(seeds, order, strict=True)])

    def ordered(self, size: int) -> Iterator[Batch]:
        """Yield all examples in their order, in batches of at most *size*."""
        starts = range(0, self._examples, size)
        numbers = (list(range(start, min(start + size, self._examples))) for start in starts)
        return self._load(
            [(EVALUATION_SEED + start, batch) for start, batch in zip(starts, numbers, strict=True)]
        )

    def _load(self, draws: list[_Draw]) -> Iterator[Batch]:
        self._draws.draws = draws
        try:
            for (_, numbers), loaded in zip(draws, self._loader, strict=True):
                inputs, targets = _pair(loaded)
                yield _moved(inputs, self._device), _target(_moved(targets, self._device)), len(numbers)
        except TaskError as error:  # of a loader process, torch puts its traceback before the sentence
            raise TaskError(str(error).rpartition(f"{TaskError.__name__}: ")[2].rstrip()) from error
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise TaskError(
                "A process that loads examples was killed, perhaps because the device has too little memory "
                "or shared memory; use fewer --workers or a smaller --batch-size."
            ) from error


class _Draws:
    """The batch sampler of the `DataLoader`; holds the draws of the current epoch.

    Loader processes outlive an epoch, and belong to one sampler.
    """

    def __init__(self) -> None:
        self.draws: list[_Draw] = []

    def __iter__(self) -> Iterator[_Draw]:
        return iter(self.draws)

    def __len__(self) -> int:
        return len(self.draws)


class _Seeded(Dataset[Any]):
    """A data set whose batches begin with a seed for its random transforms."""

    def __init__(self, dataset: Dataset[Any], *, is_forked: bool) -> None:
        self._dataset = dataset
        self._is_forked = is_forked

    def __getitems__(self, draw: _Draw) -> list[Any]:
        """Return the examples of *draw*; torch's `DataLoader` calls it."""
        seed, numbers = draw
        if self._is_forked:
            _seed_all(seed)
            return self._fetch(numbers)
        state = torch.get_rng_state()  # dropout draws from the same generator
        try:
            _seed_all(seed)
            return self._fetch(numbers)
        finally:
            torch.set_rng_state(state)

    def _fetch(self, numbers: list[int]) -> list[Any]:
        fetch = getattr(self._dataset, "__getitems__", None)
        if fetch is not None:
            return list(fetch(numbers))
        return [self._dataset[number] for number in numbers]


def _seed_all(seed: int) -> None:
    """Seed the generators that transforms draw from; not those of a GPU, which dropout draws from."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)


def _die_with_parent(worker: int) -> None:  # noqa: ARG001  the interface of torch
    """Let the system kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _length(dataset: Dataset[Any]) -> int:
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise TaskError(
            f"The data set {name} is an IterableDataset, which can be neither counted nor shuffled; "
            "return a Dataset with __len__ and __getitem__ from data()."
        )
    try:
        return len(dataset)  # type: ignore[arg-type]  # torch's class has no length
    except TypeError as error:
        raise TaskError(
            f"The data set {name} has no length; return a Dataset with __len__ and __getitem__ from data()."
        ) from error


def _pair(loaded: Any) -> tuple[Any, Any]:
    """Return inputs and targets of a batch."""
    if isinstance(loaded, list | tuple) and len(loaded) == 2:
        return loaded[0], loaded[1]
    found = (
        f"{type(loaded).__name__} of {len(loaded)}" if hasattr(loaded, "__len__") else type(loaded).__name__
    )
    raise TaskError(
        f"An example of the data must be a pair (input, target), but a batch of them is a {found}."
    )


def _moved(value: Any, device: torch.device) -> Any:
    """Return *value* with its tensors on *device*; numbers and texts stay as they are."""
    if hasattr(value, "to"):  # a tensor, or a container of tensors with a method of its own
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(one, device) for one in value]
    return value


def _target(targets: Any) -> Any:
    """Return *targets* in the types of torch's losses: classes as int64, numbers as float32.

    Integers of more dimensions, such as masks, stay as they are.
    """
    if not isinstance(targets, Tensor):
        return targets
    if targets.dtype == torch.float64:
        return targets.to(torch.float32)
    is_class = targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex()
    return targets.to(torch.int64) if is_class else targets
