from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from p2pfl.learning.slots import Slots
from p2pfl.learning.strategies.scaffold import ScaffoldRule
from tests.support.drift import TRAINED, Device, Small, assert_near, trained_values
from tests.support.strategies import Rounds, Trained

PARENT = [1.0, -2.0, 0.5]


# --- the server ---------------------------------------------------------------------------------------------


def test_two_rounds_are_what_a_hand_computation_gives(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "scaffold", PARENT, members=3, strategy_arg={"server_lr": 0.5})
    model, control = torch.tensor(PARENT), torch.zeros(3)
    for updates in (
        (
            Trained([2.0, -2.0, 0.5], examples=30, control=[0.3, 0.0, -1.0]),
            Trained([1.0, 0.0, 0.5], examples=10, control=[0.0, 6.0, 0.2]),
        ),
        (Trained([0.0, 1.0, 1.0], control=[0.6, 0.3, -0.3]),),
    ):
        changes = [torch.tensor(one.w) - model for one in updates]
        model = model + 0.5 * torch.stack(changes).mean(0)
        control = control + torch.stack([torch.tensor(one.control) for one in updates]).sum(0) / 3
        assert rounds.play(*updates)["w"] == pytest.approx(model.tolist(), rel=1e-6)
        assert rounds.state()["control"] == pytest.approx(control.tolist(), rel=1e-6)


def test_buffers_are_the_mean_by_examples(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, "scaffold", PARENT)
    zero = [0.0, 0.0, 0.0]
    model = rounds.play(
        Trained(PARENT, (1.0, 4.0), 30, control=zero), Trained(PARENT, (5.0, 0.0), 10, control=zero)
    )
    assert model["mean"] == [2.0, 3.0]
    assert rounds.buffer_state() == {"control": [0.0, 0.0]}


def _flat(tensors: dict[str, Tensor]) -> list[float]:
    return [float(tensors["out.weight"][0, index]) for index in range(3)]


def test_after_full_participation_the_control_of_the_server_is_the_mean_of_those_of_the_devices(
    tmp_path: Path,
) -> None:
    devices = [Device(seed) for seed in (1, 2, 3)]
    memories: list[dict[str, Tensor]] = [{}, {}, {}]
    module = Small()
    rounds = Rounds(tmp_path, "scaffold", _flat(trained_values(module)), members=3)
    server: Slots | None = None
    for _ in range(3):
        updates = []
        for number, device in enumerate(devices):
            own = Small()
            own.load_state_dict(module.state_dict())
            start = device.start(own, "scaffold", state=server, memory=memories[number], steps=4)
            end = device.train(start)
            memories[number] = end.memory
            updates.append(Trained(_flat(trained_values(own)), control=_flat(end.control["control"])))
        model = rounds.play(*updates)
        module.out.weight.data[0, :3] = torch.tensor(model["w"])
        control = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
        control["out.weight"][0, :3] = torch.tensor(rounds.state()["control"])
        server = {"control": control}
        mean = torch.stack([one["control/out.weight"][0, :3] for one in memories]).mean(0)
        torch.testing.assert_close(control["out.weight"][0, :3], mean, rtol=1e-5, atol=1e-6)


# --- the device ---------------------------------------------------------------------------------------------


def test_after_one_step_of_plain_sgd_the_control_is_the_gradient() -> None:
    device, module = Device(), Small()
    gradients = device.gradients(module)
    end = device.train(device.start(module, "scaffold", steps=1))
    assert_near(end.control["control"], gradients)
    assert_near(end.memory, {f"control/{name}": gradients[name] for name in TRAINED})


def _some(seed: int, names: tuple[str, ...]) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    shapes = Small().state_dict()
    return {name: torch.randn(shapes[name].shape) for name in names}


def test_three_steps_are_those_of_algorithm_1_with_option_ii() -> None:
    device, module, parent = Device(), Small(), trained_values(Small())
    server, before = _some(1, TRAINED), _some(2, TRAINED)
    by_hand = Small()
    for _ in range(3):
        for name, gradient in device.gradients(by_hand).items():
            by_hand.get_parameter(name).data -= 0.1 * (gradient - before[name] + server[name])
    new = {
        name: before[name] - server[name] + (parent[name] - value) / (3 * 0.1)
        for name, value in trained_values(by_hand).items()
    }
    memory = {f"control/{name}": value for name, value in before.items()}
    start = device.start(module, "scaffold", state={"control": server}, memory=memory, steps=3)
    end = device.train(start)
    assert_near(trained_values(module), trained_values(by_hand))
    assert_near(end.memory, {f"control/{name}": value for name, value in new.items()}, 1e-5)
    assert_near(end.control["control"], {name: new[name] - before[name] for name in TRAINED}, 1e-5)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"optimizer": "adam"}, {"clip": 1e-9}, {"weight_decay": 5.0}], ids=str
)
def test_the_control_is_the_mean_gradient_whatever_the_optimizer_makes_of_it(options: dict[str, Any]) -> None:
    device, module = Device(), Small()
    gradients = device.gradients(module)
    end = device.train(device.start(module, "scaffold", steps=4, learning_rate=1e-6, **options))
    assert_near(end.control["control"], gradients, 1e-4)  # it hardly changes over such small steps


def test_without_a_step_the_control_variate_stays() -> None:
    memory = {f"control/{name}": value for name, value in _some(2, TRAINED).items()}
    end = ScaffoldRule(Device().start(Small(), "scaffold", memory=memory)).finish(4, 0.1)
    assert_near(end.memory, memory, 0.0)
    assert not any(change.any() for change in end.control["control"].values())


def test_a_parameter_that_a_loss_does_not_depend_on_has_a_control_of_zero() -> None:
    class Idle(Small):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Parameter(torch.ones(2))

    device = Device()
    end = device.train(device.start(Idle(), "scaffold", steps=2))
    assert end.control["control"]["idle"].tolist() == [0.0, 0.0]
