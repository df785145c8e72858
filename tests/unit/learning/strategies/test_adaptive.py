from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from p2pfl.learning.strategies.adaptive import FedAdam
from p2pfl.strategy_specs import FedAdamSpec
from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]
ROUNDS = (
    (Trained([1.3, -2.0, 0.4], examples=30), Trained([1.0, -1.5, 0.5], examples=10)),
    (Trained([1.0, -1.0, 0.5], examples=5), Trained([1.1, -1.9, 0.7], examples=15)),
)
TAU, BETA2 = 0.01, 0.9

SECOND: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fedadagrad": lambda second, change: second + change**2,
    "fedadam": lambda second, change: BETA2 * second + (1 - BETA2) * change**2,
    "fedyogi": lambda second, change: second - (1 - BETA2) * change**2 * torch.sign(second - change**2),
}
"""The second moment of algorithm 2."""


@pytest.mark.parametrize("strategy", SECOND)
def test_two_rounds_are_what_a_hand_computation_gives(tmp_path: Path, strategy: str) -> None:
    arguments = {"server_lr": 0.5, "beta1": 0.6, "tau": TAU}
    if strategy != "fedadagrad":
        arguments["beta2"] = BETA2
    rounds = Rounds(tmp_path, strategy, PARENT, strategy_arg=arguments)
    model = torch.tensor(PARENT, dtype=torch.float64)
    first, second = torch.zeros(3, dtype=torch.float64), torch.full((3,), TAU**2, dtype=torch.float64)
    for updates in ROUNDS:
        examples = sum(one.examples for one in updates)
        mean = sum(torch.tensor(one.w, dtype=torch.float64) * one.examples for one in updates) / examples
        change = mean - model
        first = 0.6 * first + 0.4 * change
        second = SECOND[strategy](second, change)
        model = model + 0.5 * first / (second.sqrt() + TAU)
        assert rounds.play(*updates)["w"] == pytest.approx(model.tolist(), rel=1e-5)
        state = rounds.state()
        assert state["first"] == pytest.approx(first.tolist(), rel=1e-5)
        assert state["second"] == pytest.approx(second.tolist(), rel=1e-5)


def test_the_second_moment_begins_at_tau_squared() -> None:
    assert FedAdam(FedAdamSpec(tau=0.5)).initial_state() == (0.0, 0.25)


@pytest.mark.parametrize("strategy", SECOND)
def test_parameters_that_no_member_changed_stay(tmp_path: Path, strategy: str) -> None:
    rounds = Rounds(tmp_path, strategy, PARENT)
    for _ in range(3):
        assert rounds.play(Trained(PARENT, examples=3), Trained(PARENT, examples=7))["w"] == PARENT


@pytest.mark.parametrize("strategy", SECOND)
def test_buffers_are_the_mean_by_examples_and_leave_the_state_as_it_was(
    tmp_path: Path, strategy: str
) -> None:
    rounds = Rounds(tmp_path, strategy, PARENT, strategy_arg={"tau": 0.5})
    for _ in range(2):
        model = rounds.play(Trained(PARENT, (1.0, 4.0), 30), Trained(PARENT, (5.0, 0.0), 10))
        assert model["mean"] == [2.0, 3.0]
        assert rounds.buffer_state() == {"first": [0.0, 0.0], "second": [0.25, 0.25]}
