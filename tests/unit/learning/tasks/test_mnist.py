from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks import mnist
from tests.support.images import write_images


def test_fashion_mnist_in_its_folder_is_found_out(tmp_path: Path) -> None:
    write_images(tmp_path / "MNIST" / "raw", 60_000, 10_000)
    with pytest.raises(TaskError, match="another data set than 'mnist'"):
        mnist.TASK.load(DataPlaces(tmp_path))


def test_missing_data_name_the_folder_of_torchvision(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="MNIST/raw"):
        mnist.TASK.load(DataPlaces(tmp_path))


def test_its_models_take_its_images() -> None:
    assert mnist.TASK.build("lenet")(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
