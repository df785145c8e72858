from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.catalogue import DIGITS, find_data
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tasks import digits


def test_the_split_is_fixed_and_holds_each_class_in_proportion() -> None:
    data = digits.TASK.load(DataPlaces())
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert torch.equal(digits.TASK.load(DataPlaces()).test_x, data.test_x)
    train, test = torch.bincount(data.train_y), torch.bincount(data.test_y)
    assert train.sum() == 1437
    assert ((test / (train + test) - 0.2).abs() < 0.006).all()


def test_train_and_test_together_are_scikit_learns_digits() -> None:
    data = digits.TASK.load(DataPlaces())
    pixels, labels = digits._read(*find_data("digits", DataPlaces()))
    together = torch.cat([data.train_x, data.test_x]).reshape(1797, 64)
    expected = torch.tensor(pixels) / 16
    assert sorted(together.tolist()) == sorted(expected.tolist())
    assert sorted(torch.cat([data.train_y, data.test_y]).tolist()) == sorted(labels)
    assert together.dtype == torch.float32
    assert (together.min().item(), together.max().item()) == (0, 1)


@pytest.mark.parametrize(("model", "parameters"), [("cnn", 38282), ("2nn", 55210)])
def test_a_model_gives_ten_logits_a_digit(model: str, parameters: int) -> None:
    module = digits.TASK.build(model)
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


def test_all_models_of_the_catalogue_differ() -> None:
    keys = {tuple(digits.TASK.build(model).state_dict()) for model in DIGITS.models}
    assert len(keys) == len(DIGITS.models)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"a,b\n")],
    ids=["no gzip", "three columns", "letters"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(content)
    with pytest.raises(TaskError, match=r"digits\.csv\.gz"):
        digits._read(tmp_path / "digits.csv.gz")


def test_loading_does_not_import_scikit_learn() -> None:
    code = (
        "import sys; from p2pfl.learning.data import DataPlaces; "
        "from p2pfl.learning.tasks.digits import TASK; TASK.load(DataPlaces()); "
        "print(sorted({'sklearn', 'scipy', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
