from __future__ import annotations

from typing import Any

import pytest
import torch

from p2pfl.learning.strategies.local import LocalEnd
from tests.support.drift import Device, Small, assert_near, trained_values

OPTIMIZERS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"optimizer": "adam"},
    {"clip": 0.01},
]


def test_three_steps_are_what_a_hand_computation_gives() -> None:
    device, module = Device(), Small()
    by_hand, parent = Small(), trained_values(Small())
    for _ in range(3):
        for name, gradient in device.gradients(by_hand).items():
            value = by_hand.get_parameter(name)
            value.data -= 0.1 * (gradient + 0.5 * (value.data - parent[name]))
    assert device.train(device.start(module, "fedprox", arguments={"mu": 0.5}, steps=3)) == LocalEnd()
    assert_near(trained_values(module), trained_values(by_hand))


@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_with_a_mu_of_zero_it_is_fedavg_bit_for_bit(options: dict[str, Any]) -> None:
    device, plain, proximal = Device(), Small(), Small()
    device.train(device.start(plain, "fedavg", steps=5, **options))
    device.train(device.start(proximal, "fedprox", arguments={"mu": 0.0}, steps=5, **options))
    for one, other in zip(plain.state_dict().values(), proximal.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_larger_mu_keeps_the_update_closer_to_the_parent() -> None:
    moved = []
    for mu in (0.0, 0.1, 1.0):
        module, parent = Small(), trained_values(Small())
        device = Device()
        device.train(device.start(module, "fedprox", arguments={"mu": mu}, steps=30))
        moved.append(
            sum(float((value - parent[name]).norm()) for name, value in trained_values(module).items())
        )
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > 2 * moved[2]


def test_the_first_step_is_that_of_fedavg_whatever_mu_is() -> None:
    device, plain, proximal = Device(), Small(), Small()
    device.train(device.start(plain, "fedavg", steps=1))
    device.train(device.start(proximal, "fedprox", arguments={"mu": 1e6}, steps=1))
    assert_near(trained_values(proximal), trained_values(plain))
