"""The data of a user's task: what `data()` returns, divided into training and held-out examples.

Tensors in memory take a path of their own, without a `DataLoader`. A data set names its classes by an
attribute `classes`, and their indices by `targets` or `labels`, as those of torchvision do; without these,
the examples are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from p2pfl.cards import MAX_CLASSES
from p2pfl.errors import TaskError
from p2pfl.learning import partition
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.holdout import hash_contents, hold_out
from p2pfl.learning.loader import LoaderBatches
from p2pfl.learning.own.code import UserCode, a, takes
from p2pfl.learning.weights import bytes_of
from p2pfl.spec import FileTask

MAX_READ = 20_000
"""Maximum number of examples that are read only to learn their classes: pictures of this number take about
half a minute. Larger data sets tell their classes by `targets`."""

HASHED = 1024
"""Number of examples that are copied at once to be hashed."""

EXPECTED = "return a torch Dataset of pairs (input, target), or two of them: (train, test)"


@dataclass(frozen=True)
class UserData:
    """Training and held-out examples of this device."""

    train: Dataset[Any]
    test: Dataset[Any]
    targets: Tensor | None
    """Classes of the training examples by their local indices, [examples] int64; None: they are no classes or
    not known."""
    classes: tuple[str, ...]
    """The names of the classes in the order of the local indices; empty: none are known."""
    declared: tuple[str, ...]
    """The classes that the user wrote down, so that they say nothing about the data; empty: none."""


def read_data(
    code: UserCode, place: Path | None, declared: Sequence[str], holdout: float, seed: int
) -> UserData:
    """Call `data()` of the task and divide what it returns; *declared* are the classes of `--classes`.

    Raises:
        TaskError: `data()` fails or returns something else, or too few examples.
    """
    hook = code.task.data
    if place is not None and not takes(hook, "place"):
        raise TaskError(
            f"{code.place(hook, 'data')}: --data is given, but data() takes no place; write data(place)."
        )
    with code.calling("data"):
        returned = hook(place) if takes(hook, "place") else hook()
    whole, test = parts_of(code, returned)
    for dataset in (whole, test):
        if dataset is not None:
            check_example(code, dataset)
    named = _named_classes(whole)
    labels = tuple(declared) or tuple(code.task.classes)
    classes = named or labels
    if labels and (unknown := [name for name in named if name not in labels]):
        raise code.wrong(
            "data",
            f"returned a data set with the class {unknown[0]!r}, which is not one of the declared classes",
        )
    targets = _class_targets(code, whole)
    if targets is not None and not classes:
        classes = _numbered(targets)
    if targets is not None and classes and len(targets) and int(targets.max()) >= len(classes):
        raise code.wrong(
            "data",
            f"returned the target {int(targets.max())}, and has {len(classes)} classes, numbered from 0",
        )
    if test is None:
        indices = targets.tolist() if targets is not None else [0] * len(whole)  # type: ignore[arg-type]
        kept, held = hold_out(indices, hash_contents(seed, _contents(whole)), holdout)
        if not kept or not held:
            raise code.wrong(
                "data",
                f"returned {len(whole)} examples; 2 or more are needed, to hold some out for evaluation",  # type: ignore[arg-type]
            )
        whole, test = Subset(whole, kept), Subset(whole, held)
        targets = targets[list(kept)] if targets is not None else None
    return UserData(whole, test, targets, classes, labels)


def renamed(data: UserData, agreed: Sequence[str], code: UserCode) -> list[int] | None:
    """Return the index in *agreed* of each local class; None if all indices stay.

    Raises:
        TaskError: a class is not agreed on.
    """
    if not data.classes or not agreed:
        return None
    if missing := [name for name in data.classes if name not in agreed]:
        raise TaskError(
            f"{code.file.name}: the run does not have the class {missing[0]!r} of this device's data."
        )
    mapping = [agreed.index(name) for name in data.classes]
    return None if mapping == list(range(len(mapping))) else mapping


def divide_data(data: UserData, task: FileTask, seed: int) -> Callable[[int], UserData]:
    """Return a function from the number of a partition to its part of *data*; all of it if undivided.

    It raises:
        TaskError: there is no such partition, or there are too few examples.
    """
    parts: list[list[int]] = []
    made: dict[int, UserData] = {}

    def part(index: int) -> UserData:
        if not task.partition:
            return data
        if not parts:
            labels = data.targets.tolist() if data.targets is not None else [0] * len(cast(Sized, data.train))
            scheme = partition.parse(task.partition)
            owners = owners_of(data.train, scheme.column) if isinstance(scheme, partition.Natural) else None
            parts.extend(partition.divide(labels, scheme, task.partitions, seed, owners))
        if not 0 <= index < len(parts):
            raise TaskError(f"There is no partition {index}: the run has {len(parts)}, numbered from 0.")
        if index not in made:
            rows = parts[index]
            targets = data.targets[torch.tensor(rows)] if data.targets is not None else None
            made[index] = replace(data, train=Subset(data.train, rows), targets=targets)
        return made[index]

    return part


def owners_of(dataset: Any, name: str) -> list[int | str] | None:
    """Return the owner of each example of *dataset*, which its attribute *name* has; None without it.

    Numbers and texts are owners as they are.
    """
    if isinstance(dataset, Subset):
        whole = owners_of(dataset.dataset, name)
        return None if whole is None else [whole[index] for index in dataset.indices]
    told = getattr(dataset, name, None)
    if isinstance(told, Tensor | np.ndarray):
        told = told.tolist()
    if not isinstance(told, list | tuple) or len(told) != len(dataset):
        return None
    return [one if isinstance(one, int) else str(one) for one in told]


class BatchMaker:
    """Makes batches of data sets on a device, with targets as indices of the agreement.

    Many data sets may be parts of the same tensors: these are moved and converted once.
    """

    def __init__(
        self, code: UserCode, mapping: list[int] | None, device: torch.device, workers: int = 0
    ) -> None:
        """Convert with *mapping*, the index of each class in the agreement, None if unchanged."""
        self._code = code
        self._mapping = mapping
        self._device = device
        self._workers = workers
        self._moved: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        """Inputs and targets as the data sets have them, and as batches have them."""

    def make(self, dataset: Dataset[Any], targets: Tensor | None = None) -> Batches:
        """Return *dataset* in batches; *targets* are the local indices of the classes, if they are known."""
        code, mapping, device = self._code, self._mapping, self._device
        if code.task.collate is None and (tensors := in_memory(dataset)) is not None:
            x, y, rows = tensors
            return TensorBatches(*self._converted(x, y), rows.to(device))
        labels = targets if targets is None or mapping is None else _mapped(targets, mapping)
        return LoaderBatches(
            _with(dataset, mapping), device, collate=code.task.collate, workers=self._workers, labels=labels
        )

    def _converted(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for old_x, old_y, new_x, new_y in self._moved:
            if old_x is x and old_y is y:
                return new_x, new_y
        targets = _target_tensor(y)
        if self._mapping is not None:
            targets = _mapped(targets, self._mapping)
        moved = x.to(self._device), targets.to(self._device)
        self._moved.append((x, y, *moved))
        return moved


def make_loader(
    code: UserCode, dataset: Dataset[Any], mapping: list[int] | None, batch_size: int, **settings: Any
) -> DataLoader[Any]:
    """Return *dataset* in a plain `DataLoader`, with *settings*, for a loop of the user's own."""
    return CountedLoader(
        _with(dataset, mapping), batch_size=batch_size, collate_fn=code.task.collate, **settings
    )


class CountedLoader(DataLoader[Any]):
    """A `DataLoader` that counts its batches, so that progress is seen and a training can be stopped."""

    after_batch: Any = None
    """Called after each batch with the number of batches so far; may raise to end the training."""
    drawn = 0
    """Number of batches that were used so far."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch
            self.drawn += 1
            if self.after_batch is not None:
                self.after_batch(self.drawn)


def check_example(code: UserCode, dataset: Dataset[Any]) -> None:
    """Check that the first example of *dataset* is a pair, unless the task collates examples itself."""
    with code.calling("data"):
        example = dataset[0]
    if code.task.collate is None and not is_pair(example):
        raise code.wrong(
            "data",
            f"returned a data set whose examples are {_plural(example)}; each must be a pair (input, target) "
            "unless collate(examples) makes one",
        )


def input_shape(code: UserCode, dataset: Dataset[Any]) -> tuple[int, ...]:
    """Return the shape of an input of *dataset*; empty if inputs are no tensors, or of varying shape."""
    with code.calling("data"):
        count = min(len(dataset), 8) if code.task.collate is not None else 1  # type: ignore[arg-type]
        examples = [dataset[index] for index in range(count)]
    inputs = [one[0] if is_pair(one) else None for one in examples]
    shapes = {tuple(one.shape) if isinstance(one, Tensor | np.ndarray) else () for one in inputs}
    return shapes.pop() if len(shapes) == 1 else ()


def is_pair(example: Any) -> bool:
    """Return whether *example* is a pair (input, target)."""
    return isinstance(example, tuple | list) and len(example) == 2


def in_memory(dataset: Dataset[Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return inputs, targets and the indices of the examples if *dataset* is tensors, else None."""
    subsets: list[Subset[Any]] = []
    while type(dataset) is Subset:
        subsets.append(dataset)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or len(dataset.tensors) != 2:
        return None
    x, y = dataset.tensors
    if not subsets:
        return x, y, torch.arange(len(x))
    rows = torch.as_tensor(list(subsets.pop().indices), dtype=torch.int64)
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(x):
        rows = torch.arange(len(x))[rows]  # some count from the end, or are out of bounds
    for subset in reversed(subsets):
        rows = rows[torch.as_tensor(list(subset.indices), dtype=torch.int64)]
    return x, y, rows


# --- what data() returned -----------------------------------------------------------------------------------


def parts_of(code: UserCode, returned: Any) -> tuple[Dataset[Any], Dataset[Any] | None]:
    """Return the data sets to train and to test on that `data()` has *returned*, the latter if there is one.

    Raises:
        TaskError: it is something else, or has no examples.
    """
    if isinstance(returned, tuple) and len(returned) == 2 and not _is_array(returned[0]):
        return _dataset(code, returned[0], "train"), _dataset(code, returned[1], "test")
    return _dataset(code, returned, "data"), None


def _dataset(code: UserCode, value: Any, what: str) -> Dataset[Any]:
    """Return *value*, which is a data set or a pair of tensors, as a data set of at least one example."""
    if isinstance(value, tuple) and len(value) == 2 and all(map(_is_array, value)):
        x, y = (torch.as_tensor(part) for part in value)
        if not x.ndim or not y.ndim or len(x) != len(y):
            raise code.wrong("data", f"returned tensors of {_count(x)} inputs and {_count(y)} targets")
        value = TensorDataset(x, y)
    part = "" if what == "data" else f" for {what}"
    if isinstance(value, DataLoader):
        raise code.wrong(
            "data", f"returned a DataLoader{part}; return its Dataset, the batches are made here"
        )
    if isinstance(value, IterableDataset):
        raise code.wrong("data", f"returned an IterableDataset{part}, which cannot be divided; {EXPECTED}")
    if value is None or isinstance(value, tuple | str | dict | Tensor) or not hasattr(value, "__getitem__"):
        raise code.wrong("data", f"returned {a(value)}{part}; {EXPECTED}")
    try:
        length = len(value)
    except (TypeError, NotImplementedError):
        raise code.wrong("data", f"returned {a(value)}{part} without a length; define __len__") from None
    if not length:
        raise code.wrong(
            "data", f"returned {a(value)}{part} without any example; is --data the right folder?"
        )
    dataset: Dataset[Any] = value
    return dataset


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _count(value: Tensor) -> int:
    return len(value) if value.ndim else 0


def _plural(example: Any) -> str:
    if isinstance(example, tuple | list):
        return f"{type(example).__name__}s of {len(example)}"
    return f"{type(example).__name__}s"


def _contents(dataset: Dataset[Any]) -> Iterator[bytes]:
    """Yield the bytes of each example's input if they are in memory, else its index."""
    tensors = in_memory(dataset)
    if tensors is None or tensors[0].layout != torch.strided:
        yield from (str(index).encode() for index in range(len(dataset)))  # type: ignore[arg-type]
        return
    x, _, rows = tensors
    for start in range(0, len(rows), HASHED):
        yield from (bytes(bytes_of(one)) for one in x[rows[start : start + HASHED]].cpu())


# --- classes ------------------------------------------------------------------------------------------------


def _named_classes(dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes that *dataset* tells."""
    if isinstance(dataset, Subset):
        return _named_classes(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        found = {_named_classes(part) for part in dataset.datasets}
        return found.pop() if len(found) == 1 else ()
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, tuple | list) and all(isinstance(name, str) and name for name in classes):
        return tuple(name[:64] for name in classes)
    return ()


def _class_targets(code: UserCode, dataset: Dataset[Any]) -> Tensor | None:
    """Return the targets of all examples as [examples] int64; None if they are no classes or not known."""
    with code.calling("data"):
        targets = _told_targets(dataset)
        if targets is None and is_pair(dataset[0]):
            first = _class_of(dataset[0][1])
            if first is None or len(dataset) > MAX_READ:  # type: ignore[arg-type]
                return None
            read = [_class_of(dataset[index][1]) for index in range(len(dataset))]  # type: ignore[arg-type]
            targets = torch.tensor(read, dtype=torch.int64) if None not in read else None
    if targets is None or targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
        return None
    targets = targets.to(torch.int64)
    if len(targets) and int(targets.min()) < 0:
        if code.task.loss is not None:
            return None
        raise code.wrong(
            "data",
            f"returned the target {int(targets.min())}; integers are classes, numbered from 0. For other "
            "numbers return floats",
        )
    return targets


def _told_targets(dataset: Any) -> Tensor | None:
    """Return the targets that *dataset* holds in memory."""
    if (tensors := in_memory(dataset)) is not None:
        _, y, rows = tensors
        return y[rows]
    if isinstance(dataset, Subset):
        whole = _told_targets(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(list(dataset.indices), dtype=torch.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [_told_targets(part) for part in dataset.datasets]
        return torch.cat([part for part in parts if part is not None]) if None not in parts else None
    if isinstance(dataset, TensorDataset) or getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        told = getattr(dataset, name, None)
        if isinstance(told, Tensor | np.ndarray | list | tuple) and len(told) == len(dataset):
            try:
                return torch.as_tensor(told)
            except (TypeError, ValueError, RuntimeError):  # texts, boxes
                return None
    return None


def _class_of(target: Any) -> int | None:
    """Return *target* as the index of a class; None if it is something else."""
    if isinstance(target, bool | int | np.integer):
        return int(target)
    if isinstance(target, Tensor | np.ndarray) and target.ndim == 0:
        value = target.item()
        return int(value) if isinstance(value, int) else None
    return None


def _numbered(targets: Tensor) -> tuple[str, ...]:
    """Return names for classes that have none: all numbers up to the largest, so that every index stays."""
    count = int(targets.max()) + 1 if len(targets) else 0
    return tuple(map(str, range(count))) if count <= MAX_CLASSES else ()


# --- indices of classes -------------------------------------------------------------------------------------


class _Renamed(Dataset[Any]):
    """A data set whose targets are the indices of the agreement."""

    def __init__(self, dataset: Dataset[Any], mapping: list[int]) -> None:
        self._dataset = dataset
        self._mapping = mapping

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        example = self._dataset[index]
        if not is_pair(example):
            raise TaskError(
                "The classes of this device have other numbers than those of the run, and its examples are "
                "no pairs (input, target) in which they could be changed: name the same classes everywhere."
            )
        inputs, target = example
        local = _class_of(target)
        if local is not None:
            return inputs, self._mapping[local]
        return inputs, _mapped(torch.as_tensor(target), self._mapping)


def _with(dataset: Dataset[Any], mapping: list[int] | None) -> Dataset[Any]:
    return dataset if mapping is None else _Renamed(dataset, mapping)


def _mapped(targets: Tensor, mapping: list[int]) -> Tensor:
    """Return *targets* with each index of a class replaced; others, such as -100, stay."""
    table = torch.tensor(mapping)
    is_class = (targets >= 0) & (targets < len(table))
    return torch.where(is_class, table[targets.long().clamp(0, len(table) - 1)], targets.long())


def _target_tensor(y: Tensor) -> Tensor:
    """Return *y* in the types of torch's losses: integers as int64, numbers as float32."""
    if y.dtype == torch.float64:
        return y.to(torch.float32)
    return y if y.is_floating_point() or y.is_complex() else y.to(torch.int64)
