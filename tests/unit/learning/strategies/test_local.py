from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from p2pfl.learning.strategies.local import corrected_parameters, in_memory, recalled
from tests.support.drift import TRAINED, Device, Small


def test_the_gradients_of_parameters_that_train_are_corrected() -> None:
    module = Small()
    found = corrected_parameters(Device().start(module, "fedprox"))
    assert tuple(found) == TRAINED
    assert found["out.bias"] is module.out.bias


def test_the_gradients_of_a_devices_own_layers_are_not_corrected() -> None:
    start = replace(Device().start(Small(), "fedprox"), shared=["out.bias", "fixed.weight"])
    assert list(corrected_parameters(start)) == ["out.bias"]


def test_a_parameter_with_two_names_is_there_once() -> None:
    module = nn.ModuleDict({"one": nn.Linear(2, 2, bias=False), "two": nn.Linear(2, 2, bias=False)})
    module["two"].weight = module["one"].weight
    assert list(corrected_parameters(Device().start(module, "fedprox"))) == ["one.weight"]


@pytest.mark.parametrize("strategy", ["fedprox", "scaffold", "feddyn"])
def test_a_devices_own_layer_trains_as_without_a_rule(strategy: str) -> None:
    device, plain, own = Device(), Small(), Small()
    shared = {"out.bias": torch.full((2,), 0.5)}
    device.train(device.start(plain, "fedavg", steps=1))
    start = device.start(own, strategy, state={"control": shared}, steps=1)
    end = device.train(replace(start, shared=list(shared)))
    assert torch.equal(own.out.weight, plain.out.weight)
    assert all(name.endswith("/out.bias") for name in end.memory)
    assert all(list(tensors) == ["out.bias"] for tensors in end.control.values())


def test_what_is_remembered_of_a_slot_comes_back_and_the_rest_is_zero() -> None:
    bias = torch.tensor([1.0, 2.0])
    memory = {in_memory("control", "out.bias"): bias, in_memory("other", "out.weight"): torch.ones(2, 4)}
    found = recalled(Device().start(Small(), "scaffold", memory=memory), "control")
    assert found["out.bias"].tolist() == [1.0, 2.0]
    assert found["out.weight"].tolist() == torch.zeros(2, 4).tolist()


def test_what_is_remembered_of_a_short_type_has_32_bits() -> None:
    found = recalled(Device().start(Small().to(torch.bfloat16), "scaffold"), "control")
    assert {value.dtype for value in found.values()} == {torch.float32}
