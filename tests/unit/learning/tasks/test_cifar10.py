from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import CIFAR10
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks import cifar10

EACH = 4
"""Pictures in each of the files."""


class Trap:
    """Notes that it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataPlaces:
    """A CIFAR-10 of 20 and 4 pictures, whose checksums torchvision takes for its author's."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> str:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return hashlib.md5(raw).hexdigest()

    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for number, name in enumerate([*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"]):
        pixels = np.zeros((EACH, 3, 32, 32), np.uint8)
        pixels[:, 1] = number  # green
        pixels[:, :, 5, 7] = 255
        content = {"data": pixels.reshape(EACH, -1), "labels": [number, 1, 2, 9]}
        lists["test_list" if name == "test_batch" else "train_list"].append([name, write(name, content)])
    meta = write("batches.meta", {"label_names": ["x"] * 10})
    for attribute, value in lists.items():
        monkeypatch.setattr(CIFAR10, attribute, value)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return DataPlaces(tmp_path)


def test_pictures_are_bytes_by_channel_in_the_order_of_the_files(published: DataPlaces) -> None:
    data = cifar10.TASK.load(published)
    assert (data.train_x.shape, data.test_x.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert data.train_x.dtype == torch.uint8
    assert data.train_x.is_contiguous()
    assert data.train_x[:, 1, 0, 0].tolist() == [number for number in range(5) for _ in range(EACH)]
    assert data.train_x[0, :, 5, 7].tolist() == [255] * 3
    assert data.train_x[0, :, 7, 5].tolist() == [0] * 3
    assert data.train_y[::EACH].tolist() == [0, 1, 2, 3, 4]
    assert (data.test_y.dtype, int(data.test_y[0])) == (torch.int64, 5)
    assert len(data.classes) == 10


def test_each_channel_is_scaled_by_its_own_mean_and_deviation(published: DataPlaces) -> None:
    scaling = cifar10.TASK.load(published).scaling
    assert scaling is not None
    scaled = scaling(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    inputs = CIFAR10.inputs
    assert inputs is not None
    expected = [(1 - m) / s for m, s in zip(inputs.mean, inputs.deviation, strict=True)]
    assert scaled.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_file_that_is_not_the_published_one_is_never_unpickled(
    published: DataPlaces, tmp_path: Path, name: str
) -> None:
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(TaskError, match=rf"{name} is not the file that CIFAR-10's author published"):
        cifar10.TASK.load(published)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_said_without_a_download(published: DataPlaces, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(TaskError, match="not on this device; use --download"):
        cifar10.TASK.load(published)


@pytest.mark.parametrize("model", ["2nn", "cnn", "lenet"])
def test_its_models_take_its_images(model: str) -> None:
    assert cifar10.TASK.build(model)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
