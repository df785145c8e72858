from __future__ import annotations

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.task import Data, load_task
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
