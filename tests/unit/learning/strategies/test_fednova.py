from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2pfl.learning.strategies.fednova import step_norms
from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]


def _norm(steps: int, momentum: float) -> float:
    """Return how far SGD with *momentum* moves a parameter whose gradient is always -1."""
    place, velocity = 0.0, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1
        place += velocity
    return place


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_norm_of_steps_is_how_far_they_move_a_parameter(momentum: float) -> None:
    steps = [1, 2, 7, 300]
    found = step_norms(torch.tensor(steps, dtype=torch.float64), momentum)
    assert found.tolist() == pytest.approx([_norm(one, momentum) for one in steps])


def test_an_update_without_steps_counts_as_one_step() -> None:
    assert step_norms(torch.zeros(1, dtype=torch.float64), 0.9).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_two_rounds_are_what_a_hand_computation_gives(tmp_path: Path, momentum: float) -> None:
    rounds = Rounds(tmp_path, "fednova", PARENT, momentum=momentum)
    model = torch.tensor(PARENT)
    for updates in (
        (Trained([2.0, -2.0, 0.5], examples=30, steps=8), Trained([1.0, 0.0, 0.5], examples=10, steps=2)),
        (Trained([1.0, 1.0, 1.0], examples=5, steps=3), Trained([0.0, 1.0, 2.0], examples=5, steps=4)),
    ):
        examples = sum(one.examples for one in updates)
        effective, mean = 0.0, torch.zeros(3)
        for one in updates:
            norm = _norm(one.steps, momentum)
            effective += one.examples / examples * norm
            mean += one.examples / examples * (torch.tensor(one.w) - model) / norm
        model = model + effective * mean
        assert rounds.play(*updates)["w"] == pytest.approx(model.tolist(), rel=1e-5)


def test_with_equal_steps_it_is_fedavg(tmp_path: Path) -> None:
    updates = (
        Trained([2.0, -2.0, 0.7], (1.0, 4.0), 30, steps=5),
        Trained([1.0, 0.0, 0.1], (5.0, 0.0), 10, steps=5),
    )
    found = {}
    for strategy in ("fednova", "fedavg"):
        (tmp_path / strategy).mkdir()
        found[strategy] = Rounds(tmp_path / strategy, strategy, PARENT).play(*updates)
    assert found["fednova"]["w"] == pytest.approx(found["fedavg"]["w"])
    assert found["fednova"]["mean"] == found["fedavg"]["mean"]


def test_adam_has_no_momentum_in_the_norm(tmp_path: Path) -> None:
    updates = (Trained([2.0, 1.0, 1.0], steps=4), Trained([0.0, 1.0, 1.0], steps=1))
    model = Rounds(tmp_path, "fednova", [0.0, 0.0, 0.0], optimizer="adam", momentum=0.9).play(*updates)
    assert model["w"][0] == pytest.approx(2.5 * (2 / 4) / 2)
