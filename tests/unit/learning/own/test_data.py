from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from p2pfl.errors import TaskError
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.loader import LoaderBatches
from p2pfl.learning.own.code import UserCode
from p2pfl.learning.own.data import (
    BatchMaker,
    CountedLoader,
    UserData,
    divide_data,
    in_memory,
    input_shape,
    make_loader,
    owners_of,
    read_data,
    renamed,
)
from p2pfl.learning.own.interface import Task
from p2pfl.spec import FileTask

CPU = torch.device("cpu")
FILE = Path("/home/ada/mine.py")


class Items(Dataset[Any]):
    """Given examples; *told* are attributes, such as the targets."""

    def __init__(self, items: Sequence[Any], **told: Any) -> None:
        self.items = items
        self.read = 0
        for name, value in told.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.items[index]


class Stream(IterableDataset[Any]):
    """A data set without indices."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def task_with(returned: Any, **parts: Any) -> UserCode:
    """Return a task whose data() returns *returned*."""
    return UserCode(Task(model=lambda: None, data=lambda: returned, **parts), FILE)  # type: ignore[arg-type,return-value]


def read(
    returned: Any, *, holdout: float = 0.25, seed: int = 0, classes: tuple[str, ...] = (), **parts: Any
) -> UserData:
    return read_data(task_with(returned, **parts), None, classes, holdout, seed)


def refusal(returned: Any, **parts: Any) -> str:
    with pytest.raises(TaskError) as refused:
        read(returned, **parts)
    return str(refused.value)


def pairs(labels: Sequence[int]) -> list[tuple[Tensor, int]]:
    """Return an example of each label; its input is its number."""
    return [(torch.tensor([float(number)]), label) for number, label in enumerate(labels)]


def numbers(dataset: Dataset[Any]) -> list[int]:
    """Return which examples of `pairs` are in *dataset*."""
    return [int(dataset[index][0].item()) for index in range(len(dataset))]  # type: ignore[arg-type]


def test_a_share_is_held_out_that_the_seed_determines() -> None:
    data, again, other = (read(pairs([0, 1] * 20), seed=seed) for seed in (1, 1, 2))
    assert sorted(numbers(data.train) + numbers(data.test)) == list(range(40))
    assert len(numbers(data.test)) == 10
    assert numbers(again.test) == numbers(data.test) != numbers(other.test)


def test_the_held_out_share_has_all_classes() -> None:
    labels = [0] * 80 + [1] * 16 + [2] * 4
    for seed in range(10):
        data = read(pairs(labels), seed=seed)
        assert np.bincount([labels[number] for number in numbers(data.test)]).tolist() == [20, 4, 1]


def test_a_class_that_is_held_out_is_trained_too() -> None:
    for seed in range(20):
        assert 9 in numbers(read(pairs([0] * 9 + [1]), holdout=0.5, seed=seed).train)


@pytest.mark.parametrize(
    ("examples", "share", "held"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.01, 1), (10, 0.99, 9)]
)
def test_something_is_held_out_and_something_is_trained(examples: int, share: float, held: int) -> None:
    data = read((torch.rand(examples, 2), torch.rand(examples)), holdout=share)
    assert len(data.test) == held  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.uint8])
def test_the_content_of_tensors_determines_which_are_held_out(
    monkeypatch: pytest.MonkeyPatch, kind: torch.dtype
) -> None:
    monkeypatch.setattr("p2pfl.learning.own.data.HASHED", 7)
    x = torch.arange(100).to(kind)

    def held_out(order: Tensor) -> set[int]:
        data = read((x[order], torch.zeros(len(order))))
        return set(numbers(data.test))

    assert held_out(torch.arange(100)) == held_out(torch.arange(100).flip(0))
    assert len(held_out(torch.arange(100)) - held_out(torch.arange(96))) <= 3  # of 25 the 4 that are missing


def test_inputs_that_have_no_bytes_in_a_row_are_held_out_by_their_index() -> None:
    x = torch.eye(8).to_sparse()
    assert len(read((x, torch.zeros(8))).test) == 2  # type: ignore[arg-type]


def test_a_test_set_of_the_user_is_the_held_out_data() -> None:
    data = read((pairs([0, 1, 1]), pairs([1])))
    assert (len(data.train), len(data.test)) == (3, 1)  # type: ignore[arg-type]
    assert data.targets is not None
    assert data.targets.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "returned",
    [
        (torch.rand(8, 2), torch.arange(8) // 4),
        (np.random.rand(8, 2), np.arange(8) // 4),
        TensorDataset(torch.rand(8, 2), torch.arange(8) // 4),
        Subset(TensorDataset(torch.rand(9, 2), torch.arange(9) // 4), list(range(8))),
    ],
)
def test_tensors_are_not_read_through_a_loader(returned: Any) -> None:
    data = read(returned)
    assert data.targets is not None
    assert data.classes == ("0", "1")
    batches = BatchMaker(task_with(returned), None, CPU).make(data.train)
    assert isinstance(batches, TensorBatches)
    (x, y, count), *_ = batches.ordered(100)
    assert (len(x), y.tolist(), count, y.dtype) == (6, data.targets.tolist(), 6, torch.int64)


def test_two_pairs_of_tensors_are_training_and_test_data() -> None:
    data = read(((torch.rand(5, 2), torch.rand(5)), (torch.rand(3, 2), torch.rand(3))))
    assert (len(data.train), len(data.test)) == (5, 3)  # type: ignore[arg-type]
    assert data.targets is None


@pytest.mark.parametrize("parts", [{}, {"collate": lambda examples: examples}])
def test_other_data_sets_are_read_through_a_loader(parts: dict[str, Any]) -> None:
    returned = (torch.rand(8, 2), torch.arange(8)) if parts else pairs([0, 1] * 4)
    code = task_with(returned, **parts)
    data = read_data(code, None, (), 0.25, 0)
    assert isinstance(BatchMaker(code, None, CPU).make(data.train), LoaderBatches)


# --- classes ------------------------------------------------------------------------------------------------


def test_targets_that_a_data_set_tells_are_not_read_from_its_examples() -> None:
    told = Items(pairs([0, 1] * 10), targets=[0, 1] * 10, classes=["cat", "dog"])
    data = read(ConcatDataset([Subset(told, range(6)), told]))
    assert told.read <= 2
    assert data.classes == ("cat", "dog")
    assert data.targets is not None
    assert torch.bincount(data.targets).tolist() == [10, 10]


def test_without_them_the_examples_are_read_unless_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = read(Items(pairs([0, 2] * 4)))
    assert data.classes == ("0", "1", "2")
    monkeypatch.setattr("p2pfl.learning.own.data.MAX_READ", 7)
    big = Items(pairs([0, 2] * 4))
    data = read(big)
    assert (data.classes, data.targets) == ((), None)
    assert big.read <= 3


def test_a_change_of_targets_is_not_overlooked() -> None:
    changed = Items(pairs([1, 1, 0, 0]), targets=[7, 7, 5, 5], target_transform=lambda target: target % 2)
    assert read(changed).classes == ("0", "1")


def test_numbers_are_no_classes() -> None:
    assert read((torch.rand(8, 2), torch.rand(8))).classes == ()
    assert read([(torch.rand(2), 0.5)] * 8).targets is None
    assert read([(torch.rand(2), torch.zeros(4, 4, dtype=torch.int64))] * 8).targets is None


def test_declared_classes_name_the_targets() -> None:
    by_file = read(pairs([0, 1] * 4), classes=("no", "yes"))
    assert (by_file.classes, by_file.declared) == (("no", "yes"), ("no", "yes"))
    data = read_data(task_with(pairs([0, 1] * 4), classes=["no", "yes"]), None, (), 0.25, 0)
    assert (data.classes, data.declared) == (("no", "yes"), ("no", "yes"))
    named = Items(pairs([0, 1] * 4), classes=["dog", "cat"])
    data = read(named, classes=("cat", "dog", "fox"))
    assert (data.classes, data.declared) == (("dog", "cat"), ("cat", "dog", "fox"))


@pytest.mark.parametrize(
    ("local", "agreed", "mapping"),
    [
        (("cat", "dog"), ("cat", "dog", "fox"), None),
        (("dog", "fox"), ("cat", "dog", "fox"), [1, 2]),
        (("dog", "cat"), ("cat", "dog"), [1, 0]),
        ((), ("cat", "dog"), None),
        (("cat",), (), None),
    ],
)
def test_classes_are_found_by_their_names(
    local: tuple[str, ...], agreed: tuple[str, ...], mapping: list[int] | None
) -> None:
    data = UserData(TensorDataset(), TensorDataset(), None, local, ())
    assert renamed(data, agreed, task_with(None)) == mapping


def test_a_class_that_is_not_agreed_on_is_refused() -> None:
    data = UserData(TensorDataset(), TensorDataset(), None, ("fox",), ())
    with pytest.raises(
        TaskError, match=r"mine\.py: the run does not have the class 'fox' of this device's data"
    ):
        renamed(data, ("cat",), task_with(None))


@pytest.mark.parametrize(
    "dataset",
    [TensorDataset(torch.rand(3, 2), torch.tensor([0, 1, 1])), Items(pairs([0, 1, 1]))],
)
def test_targets_of_all_paths_become_indices_of_the_agreement(dataset: Dataset[Any]) -> None:
    code = task_with(dataset)
    batches = BatchMaker(code, [2, 0], CPU).make(dataset, torch.tensor([0, 1, 1]))
    ((_, targets, _),) = batches.ordered(3)
    (loaded,) = make_loader(code, dataset, [2, 0], 3)
    assert targets.tolist() == loaded[1].tolist() == [2, 0, 0]
    assert batches.labels is not None
    assert batches.labels.tolist() == [2, 0, 0]


def test_masks_become_indices_of_the_agreement_but_for_pixels_without_class() -> None:
    masks = Items([(torch.rand(1, 2), torch.tensor([[0, 1], [-100, 255]]))])
    ((_, targets, _),) = BatchMaker(task_with(masks), [1, 0], CPU).make(masks).ordered(1)
    assert targets.tolist() == [[[1, 0], [-100, 255]]]


def test_targets_in_other_things_than_pairs_cannot_be_changed() -> None:
    code = task_with(None, collate=lambda examples: (examples, torch.zeros(1)))
    with pytest.raises(TaskError, match="name the same classes everywhere"):
        next(iter(make_loader(code, Items([{"x": 1}]), [1, 0], 1)))


# --- inputs, loaders ----------------------------------------------------------------------------------------


def test_the_shape_of_an_input_is_told_where_all_have_it() -> None:
    pictures = Items([(torch.rand(3, 4, 5), 0)] * 2)
    assert input_shape(task_with(pictures), pictures) == (3, 4, 5)
    texts = Items([(torch.rand(length), 0) for length in (2, 3)])
    assert input_shape(task_with(texts, collate=lambda examples: examples), texts) == ()
    words = Items([("two words", 0)])
    assert input_shape(task_with(words), words) == ()


def test_a_loader_counts_its_batches() -> None:
    loader = make_loader(task_with(None), Items(pairs([0] * 5)), None, 2)
    assert isinstance(loader, CountedLoader)
    seen: list[int] = []
    loader.after_batch = seen.append
    assert len([*loader, *loader]) == 6
    assert (seen, loader.drawn) == ([1, 2, 3, 4, 5, 6], 6)


def test_only_two_tensors_are_inputs_and_targets() -> None:
    assert in_memory(TensorDataset(torch.rand(2), torch.rand(2), torch.rand(2))) is None


def test_rows_of_parts_of_parts_are_found_and_may_count_from_the_end() -> None:
    whole = TensorDataset(torch.arange(5), torch.arange(5))
    assert in_memory(whole)[2].tolist() == [0, 1, 2, 3, 4]  # type: ignore[index]
    part = Subset(Subset(whole, [4, 2, -5]), [0, 2, -2])
    assert in_memory(part)[2].tolist() == [4, 0, 2]  # type: ignore[index]
    with pytest.raises(IndexError):
        in_memory(Subset(whole, [5]))


def test_parts_of_the_same_tensors_share_what_was_converted() -> None:
    whole = TensorDataset(torch.rand(4, 2), torch.tensor([0, 1, 0, 1], dtype=torch.int32))
    maker = BatchMaker(task_with(whole), [1, 0], CPU)
    first, second = (maker.make(Subset(whole, rows)) for rows in ([0, 1], [2, 3]))
    assert isinstance(first, TensorBatches)
    assert isinstance(second, TensorBatches)
    assert first.y is second.y
    assert first.labels.tolist() == second.labels.tolist() == [1, 0]  # type: ignore[union-attr]
    other = maker.make(TensorDataset(whole.tensors[0], torch.zeros(4, dtype=torch.int64)))
    assert other.labels.tolist() == [1, 1, 1, 1]  # type: ignore[union-attr]


# --- what is refused ----------------------------------------------------------------------------------------

WANTED = "return a torch Dataset of pairs (input, target), or two of them: (train, test)"


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, f"returned None; {WANTED}"),
        ((None, None), f"returned None for train; {WANTED}"),
        (5, f"returned an int; {WANTED}"),
        ((1, 2, 3), f"returned a tuple of 3; {WANTED}"),
        (torch.rand(3), f"returned a Tensor; {WANTED}"),
        (([(torch.rand(1), 0)], 4), f"returned an int for test; {WANTED}"),
        (Stream(), f"returned an IterableDataset, which cannot be divided; {WANTED}"),
        (
            DataLoader(TensorDataset(torch.rand(3))),
            "returned a DataLoader; return its Dataset, the batches are made here",
        ),
        (Dataset[Any](), "returned a Dataset without a length; define __len__"),
        ([], "returned a list of 0 without any example; is --data the right folder?"),
        ((torch.rand(3, 2), torch.rand(2)), "returned tensors of 3 inputs and 2 targets"),
        (
            [torch.rand(3)] * 4,
            "returned a data set whose examples are Tensors; each must be a pair (input, target) unless "
            "collate(examples) makes one",
        ),
        (
            TensorDataset(*[torch.rand(4)] * 3),
            "returned a data set whose examples are tuples of 3; each must be a pair (input, target) unless "
            "collate(examples) makes one",
        ),
        (pairs([0]), "returned 1 examples; 2 or more are needed, to hold some out for evaluation"),
        (
            pairs([0, -1]),
            "returned the target -1; integers are classes, numbered from 0. For other numbers return floats",
        ),
    ],
)
def test_what_data_returns_is_refused_in_a_sentence(returned: Any, said: str) -> None:
    assert refusal(returned) == f"mine.py, in data(): {said}"


def test_targets_and_classes_must_fit() -> None:
    assert refusal(pairs([0, 2]), classes=("no", "yes")) == (
        "mine.py, in data(): returned the target 2, and has 2 classes, numbered from 0"
    )
    named = Items(pairs([0, 0]), classes=["fox"])
    assert refusal(named, classes=("cat", "dog")) == (
        "mine.py, in data(): returned a data set with the class 'fox', which is not one of the declared classes"
    )


def test_a_path_for_data_that_takes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"--data is given, but data\(\) takes no place; write data\(place\)\."
    ):
        read_data(task_with(pairs([0, 1])), tmp_path, (), 0.5, 0)


def test_data_gets_its_path(tmp_path: Path) -> None:
    seen: list[Path | None] = []

    def data(place: Path | None) -> Any:
        seen.append(place)
        return pairs([0, 1])

    code = UserCode(Task(model=lambda: None, data=data), FILE)  # type: ignore[arg-type,return-value]
    read_data(code, tmp_path, (), 0.5, 0)
    read_data(code, None, (), 0.5, 0)
    assert seen == [tmp_path, None]


# --- owners -----------------------------------------------------------------------------------------------------


def test_the_owners_of_examples_are_an_attribute_of_the_data_set() -> None:
    items = Items([(index, 0) for index in range(4)], writers=["a", "b", "a", "b"])
    assert owners_of(items, "writers") == ["a", "b", "a", "b"]
    assert owners_of(Subset(items, [3, 0]), "writers") == ["b", "a"]
    assert owners_of(Items([1, 2], who=torch.tensor([7, 8])), "who") == [7, 8]
    assert owners_of(items, "readers") is None
    assert owners_of(Items([1, 2], who=[1]), "who") is None


def test_a_data_set_is_divided_by_its_owners() -> None:
    items = Items(
        [(torch.zeros(1), index % 2) for index in range(40)], writers=[index % 5 for index in range(40)]
    )
    data = read(items)
    part = divide_data(data, FileTask("mine", partition="natural:writers", partitions=5), 1)
    for index in range(5):
        owners = owners_of(part(index).train, "writers")
        assert owners is not None
        assert len({*owners}) == 1
    with pytest.raises(TaskError, match="no 'readers' that names the owner"):
        divide_data(data, FileTask("mine", partition="natural:readers", partitions=5), 1)(0)
