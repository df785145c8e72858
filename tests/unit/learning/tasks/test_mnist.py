from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import FASHION_MNIST, IDX_FILES
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.pictures.inputs import PictureInputs
from p2pfl.learning.tasks import mnist
from tests.support.images import FASHION_FIRST_LABELS, idx, images_of, labels_of, write_images

TASK = mnist.IdxImages(
    msgspec.structs.replace(FASHION_MNIST, inputs=PictureInputs((1, 4, 4), (0.5,), (0.25,))),
    tuple("0123456789"),
    first_labels=FASHION_FIRST_LABELS,
    train_examples=30,
    test_examples=20,
    side=4,
)


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    write_images(tmp_path, 30, 20, 4, packed=False)
    return DataPlaces(tmp_path)


def test_pixels_stay_bytes_and_labels_become_indices(places: DataPlaces) -> None:
    data = TASK.load(places)
    assert (data.train_x.shape, data.test_x.shape) == ((30, 1, 4, 4), (20, 1, 4, 4))
    assert data.train_x.dtype == data.test_x.dtype == torch.uint8
    assert data.train_y.dtype == data.test_y.dtype == torch.int64
    assert data.train_y.tolist() == list(labels_of(30))
    assert data.train_x.flatten().tolist() == list(images_of(labels_of(30), 4))


def test_the_scaling_takes_the_mean_to_0_and_the_deviation_to_1(places: DataPlaces) -> None:
    scaling = TASK.load(places).scaling
    assert scaling is not None
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert scaling(pixels).flatten().tolist() == pytest.approx([-2.0, 2.0])
    assert pixels.flatten().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (0, idx(bytes(29 * 16), 29, 4, 4), "29 x 4 x 4 elements where 30 x 4 x 4"),
        (1, idx(labels_of(31), 31), "31 elements where 30 are expected"),
        (1, idx(labels_of(29) + b"\x0a", 30), "the label 10; there are 10 classes, from 0"),
        (1, idx(labels_of(30, (5, 0, 4, 1)), 30), "labels of another data set than 'fashion-mnist'"),
        (2, idx(bytes(20 * 16), 20, 16), "2 dimensions where 3 are expected"),
        (3, idx(b"\xff" * 20, 20), "the label 255"),
        (3, b"", "no IDX file"),
    ],
)
def test_files_that_do_not_fit_are_named(
    places: DataPlaces, tmp_path: Path, file: int, content: bytes, words: str
) -> None:
    (tmp_path / IDX_FILES[file]).write_bytes(content)
    with pytest.raises(TaskError, match=words) as caught:
        TASK.load(places)
    assert IDX_FILES[file] in str(caught.value)


def test_data_that_are_not_here_are_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="not on this device; use --download"):
        TASK.load(DataPlaces(tmp_path))


@pytest.mark.parametrize("model", ["2nn", "cnn"])
def test_models_are_made_for_the_images(places: DataPlaces, model: str) -> None:
    data = TASK.load(places)
    assert data.scaling is not None
    assert TASK.build(model)(data.scaling(data.test_x)).shape == (20, 10)


def test_fashion_mnist_in_its_folder_is_found_out(tmp_path: Path) -> None:
    write_images(tmp_path / "MNIST" / "raw", 60_000, 10_000)
    with pytest.raises(TaskError, match="another data set than 'mnist'"):
        mnist.TASK.load(DataPlaces(tmp_path))


def test_missing_data_name_the_folder_of_torchvision(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="MNIST/raw"):
        mnist.TASK.load(DataPlaces(tmp_path))


def test_its_models_take_its_images() -> None:
    assert mnist.TASK.build("lenet")(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
