"""What `p2pfl predict` does with a model of a user's task: inputs from files, and answers from outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

from p2pfl.errors import TaskError
from p2pfl.learning.own.code import UserCode, a, takes
from p2pfl.learning.own.data import BatchMaker, parts_of
from p2pfl.learning.training import EVALUATION_BATCH


def read_inputs(code: UserCode, place: Path, device: torch.device) -> Iterator[tuple[Any, int]]:
    """Yield batches of the inputs at *place*, on *device*, each with its number of examples.

    They are what `inputs(place)` of the task returns, or the inputs of `data(place)`.

    Raises:
        TaskError: the function fails, or returns something else.
    """
    dataset = _labelled(code, place) if code.task.inputs is None else _unlabelled(code, place)
    for inputs, _, count in BatchMaker(code, None, device).make(dataset).ordered(EVALUATION_BATCH):
        yield inputs, count


def answers_to(code: UserCode, outputs: Any, count: int) -> list[str]:
    """Return what `predict(outputs)` of the task answers for *count* examples.

    Raises:
        TaskError: the function fails, or returns another number of answers.
    """
    hook = code.task.predict
    assert hook is not None, "the caller has looked"
    with code.calling("predict"):
        returned = hook(outputs)
        answers = returned.tolist() if isinstance(returned, Tensor | np.ndarray) else list(returned)
    if len(answers) != count:
        raise code.wrong("predict", f"returned {len(answers)} answers for {count} examples")
    return [str(answer) for answer in answers]


def _labelled(code: UserCode, place: Path) -> Dataset[Any]:
    """Return all examples of `data(place)`."""
    hook = code.task.data
    if not takes(hook, "place"):
        raise TaskError(
            f"{code.place(hook, 'data')}: data() takes no place, so it reads no file that is named here: "
            "define inputs(place), which returns the inputs of the model."
        )
    with code.calling("data"):
        returned = hook(place)
    train, test = parts_of(code, returned)
    return train if test is None else ConcatDataset([train, test])


def _unlabelled(code: UserCode, place: Path) -> Dataset[Any]:
    """Return the inputs of `inputs(place)` as examples, whose targets mean nothing."""
    hook = code.task.inputs
    assert hook is not None, "the caller has looked"
    with code.calling("inputs"):
        found = hook(place)
    if isinstance(found, Tensor | np.ndarray) and found.ndim:
        rows = torch.as_tensor(found)
        return TensorDataset(rows, torch.zeros(len(rows), dtype=torch.int64))
    if isinstance(found, str | dict | Tensor) or not (
        hasattr(found, "__len__") and hasattr(found, "__getitem__")
    ):
        raise code.wrong(
            "inputs", f"returned {a(found)}; return a tensor [examples, ...], or a list or data set of inputs"
        )
    return _Inputs(found)


class _Inputs(Dataset[Any]):
    """Inputs as examples: so `collate` of the task makes batches of them as in training."""

    def __init__(self, inputs: Any) -> None:
        self._inputs = inputs

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._inputs[index], 0
