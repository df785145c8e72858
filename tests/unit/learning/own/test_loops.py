from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.own.code import UserCode
from p2pfl.learning.own.data import UserData
from p2pfl.learning.own.interface import Task, TrainSettings
from p2pfl.learning.own.loops import UserLoops
from p2pfl.work import TrainingJob
from tests.support.user_tasks import file_spec

CPU = torch.device("cpu")
OPTIONS = file_spec(epochs=2, batch_size=4, learning_rate=0.5).training


def loops_with(examples: int = 10, mapping: list[int] | None = None, **parts: Any) -> UserLoops:
    code = UserCode(Task(model=lambda: None, data=lambda: None, **parts), Path("/home/ada/mine.py"))  # type: ignore[arg-type,return-value]
    train = TensorDataset(torch.arange(examples).float(), torch.zeros(examples, dtype=torch.int64))
    test = TensorDataset(torch.arange(6).float(), torch.zeros(6, dtype=torch.int64))
    return UserLoops(code, UserData(train, test, None, (), ()), mapping, CPU, 0)


def train(loops: UserLoops, seen: list[tuple[int, int]] | None = None) -> tuple[int, float]:
    progress = seen if seen is not None else []
    return loops.train(nn.Linear(1, 1), OPTIONS, 3, 11, lambda done, total: progress.append((done, total)))


def test_a_loop_gets_the_model_a_loader_and_settings() -> None:
    seen: list[TrainSettings] = []

    def hook(model: nn.Module, loader: DataLoader[Any], settings: TrainSettings) -> float:
        assert model.training
        seen.append(settings)
        examples = [inputs for _ in range(settings.epochs) for inputs, _ in loader]
        assert sorted(torch.cat(examples).tolist()) == sorted([*range(10)] * 2)
        return 0.25

    progress: list[tuple[int, int]] = []
    assert train(loops_with(train=hook), progress) == (6, 0.25)
    assert seen == [TrainSettings(2, 4, 0.5, 3, 11, CPU)]
    assert progress == [(done, 6) for done in range(1, 7)]


def test_the_seed_determines_the_order() -> None:
    orders: list[list[float]] = []

    def hook(model: nn.Module, loader: DataLoader[Any], settings: TrainSettings) -> None:
        orders.append(torch.cat([inputs for inputs, _ in loader]).tolist())

    assert train(loops_with(train=hook)) == train(loops_with(train=hook)) == (3, 0.0)
    assert orders[0] == orders[1] != sorted(orders[0])


def test_a_loop_sees_targets_as_indices_of_the_agreement() -> None:
    seen: list[Tensor] = []

    def hook(model: nn.Module, loader: DataLoader[Any]) -> dict[str, float]:
        seen.extend(targets for _, targets in loader)
        return {"right": 0.5}

    evaluation = loops_with(mapping=[2], evaluate=hook).evaluate(nn.Linear(1, 1))
    assert torch.cat(seen).tolist() == [2] * 6
    assert (evaluation.examples, evaluation.sums) == (6, {"right": 3.0})


def test_no_batch_of_a_training_has_one_example() -> None:
    sizes: list[int] = []

    def hook(model: nn.Module, loader: DataLoader[Any], settings: TrainSettings) -> None:
        sizes.extend(len(inputs) for inputs, _ in loader)

    train(loops_with(examples=9, train=hook))
    assert sizes == [4, 4]


def test_a_training_can_be_stopped_from_a_loop() -> None:
    class StoppedError(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        raise StoppedError

    def hook(model: nn.Module, loader: DataLoader[Any], settings: TrainSettings) -> None:
        list(loader)

    with pytest.raises(StoppedError):
        loops_with(train=hook).train(nn.Linear(1, 1), OPTIONS, 1, 1, stop)


def test_a_number_that_is_not_finite_is_bounded_in_an_evaluation() -> None:
    evaluation = loops_with(evaluate=lambda model, loader: {"b": float("nan"), "a": 1}).evaluate(
        nn.Linear(1, 1)
    )
    assert list(evaluation.sums.items()) == [("a", 6.0), ("b", 1e300)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "the training diverged: it returned the loss nan; use a smaller --lr"),
        ("good", "returned a str; return the mean loss, or None"),
    ],
)
def test_what_a_loop_returns_is_refused_in_a_sentence(value: Any, said: str) -> None:
    with pytest.raises(TaskError) as refused:
        train(loops_with(train=lambda model, loader, settings: value))
    assert str(refused.value).partition(", in train(): ")[2] == said


def job(trained: int) -> TrainingJob:
    spec = file_spec()
    return TrainingJob("run", trained + 1, spec, Agreement((), 9), "m", 0, trained, 3)


def test_an_optimizer_of_the_users_own_has_the_learning_rate_of_the_round() -> None:
    loops = loops_with(optimizer=lambda parameters, rate: torch.optim.Adam(parameters, rate))
    options = msgspec.structs.replace(OPTIONS, learning_rate=0.125)
    optimizer = loops.optimizer(job(0))([*nn.Linear(1, 1).parameters()], options)
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize(("trained", "rate"), [(0, 0.5), (1, 0.25), (2, 0.125)])
def test_a_scheduler_takes_a_step_for_each_round(trained: int, rate: float) -> None:
    loops = loops_with(
        optimizer=lambda parameters, rate: torch.optim.SGD(parameters, rate),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
    )
    optimizer = loops.optimizer(job(trained))([*nn.Linear(1, 1).parameters()], OPTIONS)
    assert optimizer.param_groups[0]["lr"] == rate


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"optimizer": lambda parameters, rate: None},
            "optimizer(): returned None; return an optimizer of torch.optim",
        ),
        (
            {
                "optimizer": lambda parameters, rate: torch.optim.SGD(parameters, rate),
                "scheduler": lambda optimizer: 3,
            },
            "scheduler(): returned an int; return a scheduler of torch.optim.lr_scheduler",
        ),
    ],
)
def test_what_is_no_optimizer_is_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError) as refused:
        loops_with(**parts).optimizer(job(0))([*nn.Linear(1, 1).parameters()], OPTIONS)
    assert str(refused.value).partition(", in ")[2] == said
