from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import FASHION_MNIST
from p2pfl.learning.data import DataPlaces, DataSet
from p2pfl.learning.tasks import fashion_mnist, mnist
from tests.support.images import write_images

assert isinstance(FASHION_MNIST.data, DataSet)
assert FASHION_MNIST.data.system_folder is not None
DEBIANS = Path(FASHION_MNIST.data.system_folder)

needs_data = pytest.mark.skipif(not DEBIANS.is_dir(), reason="the package dataset-fashion-mnist is not here")


@needs_data
def test_debians_files_are_the_whole_data_set_with_the_mean_and_deviation_that_scale_it() -> None:
    data = fashion_mnist.TASK.load(DataPlaces(DEBIANS))
    assert (data.train_x.shape, data.test_x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert torch.bincount(data.train_y).tolist() == [6000] * 10
    assert torch.bincount(data.test_y).tolist() == [1000] * 10
    assert data.scaling is not None
    scaled = data.scaling(data.train_x)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-3)
    assert scaled.std().item() == pytest.approx(1, abs=1e-3)


@needs_data
def test_they_are_not_taken_for_mnist() -> None:
    with pytest.raises(TaskError, match="another data set than 'mnist'"):
        mnist.TASK.load(DataPlaces(DEBIANS))


def test_loading_does_not_import_torchvision(tmp_path: Path) -> None:
    write_images(tmp_path, 60_000, 10_000)
    code = (
        "import sys, pathlib; from p2pfl.learning.data import DataPlaces; "
        "from p2pfl.learning.tasks.fashion_mnist import TASK; "
        "data = TASK.load(DataPlaces(pathlib.Path(sys.argv[1]))); TASK.build('2nn'); "
        "print(len(data.train_x), 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "60000 False"


@pytest.mark.parametrize(("model", "parameters"), [("2nn", 199_210), ("cnn", 1_663_370), ("lenet", 61_706)])
def test_its_models_have_the_papers_sizes(model: str, parameters: int) -> None:
    module = fashion_mnist.TASK.build(model)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
