from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.drift import TRAINED, Device, Small, assert_near, trained_values
from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]
ALPHA = 0.2


def test_two_rounds_are_what_a_hand_computation_gives(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "feddyn", PARENT, members=3, strategy_arg={"alpha": ALPHA})
    model, drift = torch.tensor(PARENT), torch.zeros(3)
    for updates in (
        (Trained([2.0, -2.0, 0.5], examples=30), Trained([1.0, 0.0, 0.5], examples=10)),
        (Trained([0.0, 1.0, 1.0]),),
    ):
        trained = torch.stack([torch.tensor(one.w) for one in updates])
        drift = drift - ALPHA / 3 * (trained - model).sum(0)
        model = trained.mean(0) - drift / ALPHA
        assert rounds.play(*updates)["w"] == pytest.approx(model.tolist(), rel=1e-5)
        assert rounds.state()["drift"] == pytest.approx(drift.tolist(), rel=1e-5)


def test_buffers_are_the_mean_by_examples(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "feddyn", PARENT)
    model = rounds.play(Trained(PARENT, (1.0, 4.0), 30), Trained(PARENT, (5.0, 0.0), 10))
    assert model["mean"] == [2.0, 3.0]
    assert rounds.buffer_state() == {"drift": [0.0, 0.0]}


def test_two_rounds_on_a_device_are_what_a_hand_computation_gives() -> None:
    device = Device()
    memory: dict[str, Tensor] = {}
    known = {name: torch.zeros_like(value) for name, value in trained_values(Small()).items()}
    for seed in (0, 7):  # the parents of two rounds
        module, by_hand, parent = Small(seed), Small(seed), trained_values(Small(seed))
        for _ in range(3):
            for name, gradient in device.gradients(by_hand).items():
                value = by_hand.get_parameter(name)
                value.data -= 0.1 * (gradient - known[name] + ALPHA * (value.data - parent[name]))
        for name, trained in trained_values(by_hand).items():
            known[name] = known[name] - ALPHA * (trained - parent[name])
        start = device.start(module, "feddyn", arguments={"alpha": ALPHA}, memory=memory, steps=3)
        end = device.train(start)
        memory = end.memory
        assert_near(trained_values(module), trained_values(by_hand))
        assert_near(memory, {f"gradient/{name}": known[name] for name in TRAINED})
        assert end.control == {}


def test_at_a_minimum_of_the_local_objective_the_memory_is_the_gradient_of_the_loss() -> None:
    device, module = Device(), Small()
    memory: dict[str, Tensor] = {}
    start = device.start(module, "feddyn", arguments={"alpha": 1.0}, memory=memory, steps=400)
    end = device.train(start)
    gradients = device.gradients(module)
    assert_near(end.memory, {f"gradient/{name}": gradients[name] for name in TRAINED}, 1e-4)
