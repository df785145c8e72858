from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.own.code import UserCode, load_user_code
from p2pfl.learning.own.prediction import answers_to, read_inputs
from tests.support.user_tasks import write_task

TASK = """
import torch
from torch import nn

def model():
    return nn.Linear(2, 2)

def data(place):
    x = torch.arange(8.0).view(4, 2)
    return (x, torch.zeros(4)), (x + 10, torch.zeros(4))

"""


def code_with(folder: Path, functions: str, task: str = TASK) -> UserCode:
    return load_user_code(str(write_task(folder, task + functions)))


def inputs_of(code: UserCode) -> list[Any]:
    return list(read_inputs(code, Path("somewhere"), torch.device("cpu")))


def test_all_examples_of_data_are_inputs_those_to_train_on_first(tmp_path: Path) -> None:
    [(inputs, count)] = inputs_of(code_with(tmp_path, ""))
    assert count == 8
    assert torch.equal(inputs[:4] + 10, inputs[4:])


@pytest.mark.parametrize("form", ["torch.ones(3, 2)", "torch.ones(3, 2).numpy()", "[torch.ones(2)] * 3"])
def test_inputs_without_targets_are_a_tensor_an_array_or_a_list(tmp_path: Path, form: str) -> None:
    [(inputs, count)] = inputs_of(code_with(tmp_path, f"def inputs(place):\n    return {form}\n"))
    assert count == 3
    assert torch.equal(inputs, torch.ones(3, 2))


def test_inputs_are_collated_as_in_training(tmp_path: Path) -> None:
    functions = """
def inputs(place):
    return [torch.ones(1), torch.ones(3)]

def collate(examples):
    return nn.utils.rnn.pad_sequence([one for one, _ in examples], batch_first=True), torch.zeros(2)
"""
    [(inputs, _)] = inputs_of(code_with(tmp_path, functions))
    assert inputs.tolist() == [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("form", ["None", "'text'", "torch.tensor(1.0)", "{}"])
def test_what_is_no_inputs_is_told_with_its_place(tmp_path: Path, form: str) -> None:
    code = code_with(tmp_path, f"def inputs(place):\n    return {form}\n")
    with pytest.raises(TaskError, match=r"mine\.py, line \d+, in inputs\(\): returned .*; return a tensor"):
        inputs_of(code)


def test_data_without_a_place_reads_no_files(tmp_path: Path) -> None:
    code = code_with(tmp_path, "", TASK.replace("data(place)", "data()"))
    with pytest.raises(TaskError, match=r"data\(\) takes no place, .*: define inputs\(place\)"):
        inputs_of(code)


@pytest.mark.parametrize("form", ["outputs.argmax(1)", "outputs.argmax(1).numpy()", "['1', 0]"])
def test_answers_are_texts_of_any_sequence(tmp_path: Path, form: str) -> None:
    code = code_with(tmp_path, f"def predict(outputs):\n    return {form}\n")
    assert answers_to(code, torch.eye(2).flip(0), 2) == ["1", "0"]


def test_another_number_of_answers_and_an_error_are_told_with_their_place(tmp_path: Path) -> None:
    code = code_with(tmp_path, "def predict(outputs):\n    return outputs[:1]\n")
    with pytest.raises(TaskError, match=r"in predict\(\): returned 1 answers for 2 examples"):
        answers_to(code, torch.eye(2), 2)
    with pytest.raises(TaskError, match=r"mine\.py, line \d+, in predict\(\): TypeError"):
        answers_to(code, 3, 2)


def test_other_things_of_a_file_may_have_the_names(tmp_path: Path) -> None:
    task = code_with(tmp_path, "inputs = torch.ones(3)\npredict = None\n").task
    assert task.inputs is None
    assert task.predict is None
