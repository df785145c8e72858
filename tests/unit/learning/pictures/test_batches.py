from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from p2pfl.errors import TaskError
from p2pfl.learning.models import ImageShape
from p2pfl.learning.pictures import batches
from p2pfl.learning.pictures.batches import (
    PictureBatches,
    PictureDataset,
    PictureStore,
    augmented,
    fit_in_memory,
)
from tests.support.pictures import noise, write_picture

CPU = torch.device("cpu")
SHAPE = ImageShape(1, 8, 8)


@pytest.fixture
def dataset(tmp_path: Path) -> PictureDataset:
    """Ten pictures of three classes."""
    paths = [write_picture(tmp_path / f"{number}.png", noise(number)).name for number in range(10)]
    return PictureDataset(tmp_path, paths, [number % 3 for number in range(10)], SHAPE)


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _all(batches: PictureBatches, *, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Return all inputs and targets, in order or as *seed* shuffles them."""
    found: Iterator[tuple[Tensor, Tensor, int]]
    found = (
        batches.ordered(4)
        if seed is None
        else batches.shuffled([4, 3] if batches.examples == 7 else [1], _generator(seed))
    )
    x, y, counts = zip(*found, strict=True)
    assert [len(one) for one in x] == list(counts)
    return torch.cat(x), torch.cat(y)


def _kinds(x: Tensor) -> set[bytes]:
    """Return the pictures of *x* without their order."""
    return {one.numpy().tobytes() for one in x}


def _pixels(*numbers: int) -> Tensor:
    return torch.stack([torch.from_numpy(noise(number)) for number in numbers])[:, None]


def test_all_pictures_are_read_into_one_tensor(dataset: PictureDataset) -> None:
    pixels = dataset.read_all()
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, _pixels(*range(10)))


def test_reading_takes_as_many_threads_as_torch(
    dataset: PictureDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(dataset.read_all(), _pixels(*range(10)))


def test_reading_long_is_told(
    dataset: PictureDataset, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("p2pfl.learning.pictures.folders.BLOCK", 4)
    monkeypatch.setattr("p2pfl.learning.progress.LINE_SECONDS", 0.0)
    dataset.read_all()
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "reading pictures: 4 of 10",
        "reading pictures: 8 of 10",
        "reading pictures: all 10 in 0 s",
    ]


def test_a_picture_that_has_gone_is_named(dataset: PictureDataset, tmp_path: Path) -> None:
    (tmp_path / "7.png").unlink()
    with pytest.raises(
        TaskError, match=r"The picture .*/7.png can no longer be read \(.*No such file.*\); remove"
    ):
        dataset.read_all()


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_pictures_are_the_same_from_memory_and_from_their_files(
    dataset: PictureDataset, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    monkeypatch.setattr(batches, "fit_in_memory", lambda *_: workers is None)
    store = PictureStore(dataset, 7, CPU, workers or 0)
    x, y = _all(store.train_part(augment=False))
    torch.testing.assert_close(x, (_pixels(*range(7)) / 255 - 0.5) / 0.25)
    assert (y.tolist(), y.dtype) == ([0, 1, 2, 0, 1, 2, 0], torch.int64)
    labels = store.train_part(augment=False).labels
    assert labels is not None
    assert torch.equal(labels, y)
    shuffled, targets = _all(store.train_part(augment=False), seed=1)
    order = [int((x == one).flatten(1).all(1).nonzero()) for one in shuffled]
    assert (sorted(order), order != sorted(order)) == (list(range(7)), True)
    assert targets.tolist() == [number % 3 for number in order]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_goes_while_pictures_are_streamed_is_named_in_one_sentence(
    dataset: PictureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(batches, "fit_in_memory", lambda *_: False)
    (tmp_path / "2.png").unlink()
    part = PictureStore(dataset, 7, CPU, workers).train_part(augment=False)
    with pytest.raises(TaskError, match=r"\AThe picture .*/2.png can no longer be read .* again\.\Z"):
        list(part.ordered(4))


def test_held_out_pictures_are_the_others_or_a_part_of_them(dataset: PictureDataset) -> None:
    store = PictureStore(dataset, 6, CPU, 0)
    whole = store.test_part(0, 1)
    assert (whole.examples, _all(whole)[1].tolist()) == (4, [0, 1, 2, 0])
    parts = [_all(store.test_part(part, 3))[1].tolist() for part in range(3)]
    assert parts == [[0, 0], [1], [2]]


def test_pictures_are_read_once(dataset: PictureDataset, tmp_path: Path) -> None:
    store = PictureStore(dataset, 6, CPU, 0)
    before, _ = _all(store.train_part(augment=False))
    for path in tmp_path.iterdir():
        path.unlink()
    assert torch.equal(_all(store.train_part(augment=False))[0], before)
    assert store.test_part(0, 1).examples == 4


def test_loader_processes_stay_from_one_round_to_the_next(
    dataset: PictureDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "fit_in_memory", lambda *_: False)
    store = PictureStore(dataset, 6, CPU, 0)
    assert store.train_part(augment=False).pictures is store.train_part(augment=True).pictures
    assert store.test_part(0, 1).pictures is not store.train_part(augment=False).pictures


def test_only_shuffled_pictures_are_augmented_and_by_the_seed(dataset: PictureDataset) -> None:
    store = PictureStore(dataset, 7, CPU, 0)
    plain, changed = store.train_part(augment=False), store.train_part(augment=True)
    assert torch.equal(_all(plain)[0], _all(changed)[0])
    first = _all(changed, seed=1)[0]
    assert torch.equal(first, _all(changed, seed=1)[0])
    assert _kinds(first) != _kinds(_all(changed, seed=2)[0])
    assert set(first.flatten().tolist()) <= set(_all(plain)[0].flatten().tolist())
    assert store.test_part(0, 1).augment is False
    single = PictureStore(dataset, 1, CPU, 0).train_part(augment=True)
    assert len({_all(single, seed=seed)[0].numpy().tobytes() for seed in range(20)}) > 5


def test_an_augmented_picture_is_shifted_and_perhaps_flipped() -> None:
    whole = torch.arange(16 * 16, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = whole.repeat(300, 2, 1, 1)
    changed = augmented(x, _generator())
    assert (changed.shape, changed.dtype) == (x.shape, x.dtype)
    assert torch.equal(changed[:, 0], changed[:, 1])  # channels stay together
    padded = torch.nn.functional.pad(whole.float(), (2, 2, 2, 2), mode="replicate")[0, 0].to(torch.uint8)
    crops = {}
    for row in range(5):
        for column in range(5):
            crop = padded[row : row + 16, column : column + 16]
            crops[crop.numpy().tobytes()] = (row, column, False)
            crops[crop.flip(1).numpy().tobytes()] = (row, column, True)
    seen = [crops[one.numpy().tobytes()] for one in changed[:, 0]]
    assert len(set(seen)) == 50
    assert 100 < sum(flipped for _, _, flipped in seen) < 200


def test_pictures_fit_below_half_of_the_available_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 2 * 3 * 8 * 8 * 100

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    shape = ImageShape(3, 8, 8)
    assert fit_in_memory(99, shape, CPU)
    assert not fit_in_memory(100, shape, CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * 3 * 8 * 8 * 10, 10**12))
    assert fit_in_memory(9, shape, torch.device("cuda"))
    assert not fit_in_memory(10, shape, torch.device("cuda"))
