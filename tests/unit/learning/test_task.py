from __future__ import annotations

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.task import Data, Scaling, load_task
from p2pfl.learning.tasks import digits
from tests.support.learning import make_spec


def test_the_task_of_a_run_is_found_by_name() -> None:
    assert load_task(make_spec()) is digits.TASK


def test_a_module_that_is_no_task_is_not_imported() -> None:
    with pytest.raises(TaskError, match="no task 'this'"):
        load_task(make_spec(task="this"))


def test_data_that_are_on_the_device_are_not_copied() -> None:
    data = Data(torch.zeros(2), torch.zeros(2), torch.zeros(1), torch.zeros(1), ("a",))
    assert data.to(torch.device("cpu")).train_x is data.train_x


def test_bytes_are_scaled_by_channel_and_stay_as_they_are() -> None:
    scaling = Scaling.normalising((0.5, 0.0), (0.5, 1.0))
    x = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 2, 1, 1)
    scaled = scaling(x)
    assert scaled.dtype == torch.float32
    assert scaled[2].tolist() == [[[pytest.approx(-1), pytest.approx(1)]], [[0, pytest.approx(1)]]]
    assert x[0].flatten().tolist() == [0, 255, 0, 255]


def test_the_scaling_moves_with_the_data() -> None:
    x, scaling = torch.zeros(1, 1, 1, 1, dtype=torch.uint8), Scaling.normalising((0.5,), (0.5,))
    moved = Data(x, torch.zeros(1), x, torch.zeros(1), ("a",), scaling).to(torch.device("meta"))
    assert moved.scaling is not None
    assert {moved.scaling.factor.device.type, moved.scaling.offset.device.type} == {"meta"}
