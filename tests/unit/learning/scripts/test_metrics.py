from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from p2pfl.cards import Measures
from p2pfl.errors import TaskError
from p2pfl.learning.scripts.metrics import ScriptMetrics, checked_count
from p2pfl.learning.training import NON_FINITE


def measured(
    returned: Any, primary: Any = ("accuracy", "max"), model: nn.Module | None = None
) -> ScriptMetrics:
    function = returned if callable(returned) else lambda _: returned
    return ScriptMetrics(model or nn.Linear(2, 1), function, primary, "own")


def test_the_names_of_the_first_call_are_the_measures_and_means_become_sums() -> None:
    metrics = measured({"loss": torch.tensor(0.5), "accuracy": 0.75, "examples": torch.tensor(8)})
    assert metrics.measures == Measures("own", ("accuracy", "loss"), "accuracy", "max")
    evaluation = metrics.evaluate("labels")
    assert evaluation.examples == 8
    assert evaluation.sums == {"accuracy": 6.0, "loss": 4.0}


def test_a_device_that_shares_nothing_does_not_tell_its_examples() -> None:
    evaluation = measured({"accuracy": 0.75, "examples": 8}).evaluate("none")
    assert (evaluation.examples, evaluation.sums) == (1, {"accuracy": 0.75})


def test_a_mean_that_is_not_finite_is_reported_as_a_large_number() -> None:
    assert measured({"accuracy": math.nan}).evaluate("labels").sums == {"accuracy": NON_FINITE}


def test_the_model_is_evaluated_without_gradients_and_keeps_the_modes_of_its_modules() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model.train()
    model[1].eval()  # frozen, as in fine-tuning
    seen = []

    def judge(module: nn.Module) -> dict[str, float]:
        seen.append((torch.is_grad_enabled(), [one.training for one in module.modules()]))
        return {"accuracy": 1.0}

    measured(judge, model=model)
    assert seen == [(False, [False] * 4)]
    assert [one.training for one in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()


def test_the_modes_come_back_also_after_an_error_of_the_metrics() -> None:
    model = nn.Linear(2, 1)

    def fail(_: nn.Module) -> dict[str, float]:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        measured(fail, model=model)
    assert model.training


@pytest.mark.parametrize(
    ("returned", "primary", "reason"),
    [
        (0.5, ("accuracy", "max"), "returned float, and a dictionary"),
        ({}, ("accuracy", "max"), "returned 0 metrics"),
        ({"examples": 3}, ("accuracy", "max"), "returned 0 metrics"),
        ({f"m{number}": 0 for number in range(17)}, ("m0", "max"), "returned 17 metrics"),
        ({"Dice": 0.5}, ("Dice", "max"), "lower-case letters"),
        ({"dice": "good"}, ("dice", "max"), "'dice' is str and no number"),
        ({"dice": torch.zeros(2)}, ("dice", "max"), "'dice' is Tensor and no number"),
        ({"dice": 0.5}, ("accuracy", "max"), r'primary=\("dice", "max"\)'),
        ({"dice": 0.5}, ("dice", "up"), "not 'up'"),
        ({"dice": 0.5, "examples": 0}, ("dice", "max"), "number of examples of the metrics is 0"),
    ],
)
def test_metrics_that_cannot_be_used_are_refused_in_a_sentence(
    returned: Any, primary: Any, reason: str
) -> None:
    with pytest.raises(TaskError, match=reason):
        measured(returned, primary)


def test_names_that_change_during_the_run_are_refused() -> None:
    names = iter(["accuracy", "accuracy", "f1"])
    metrics = measured(lambda _: {next(names): 0.5})
    metrics.evaluate("labels")
    with pytest.raises(TaskError, match="The metrics are f1 now, and were accuracy"):
        metrics.evaluate("labels")


def test_a_script_without_metrics_says_so() -> None:
    metrics = ScriptMetrics(nn.Linear(1, 1), None, ("accuracy", "max"), "hinge")
    assert not metrics.are_given
    assert metrics.measures == Measures("hinge", ("loss",), "loss", "min")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "x", None, math.inf, math.nan, 2**41])
def test_a_count_is_a_whole_number_of_at_least_one(value: Any) -> None:
    with pytest.raises(TaskError, match=r"The number of steps is .*, and a whole number"):
        checked_count(value, "The number of steps")


def test_a_count_may_be_any_kind_of_whole_number() -> None:
    assert [checked_count(value, "it") for value in (3, 3.0, torch.tensor(3))] == [3, 3, 3]
