from __future__ import annotations

import torch
from torch import nn

from p2pfl.learning.strategies.local import in_memory, recalled, trained_parameters
from tests.support.drift import TRAINED, Device, Small


def test_the_parameters_that_train_are_named_in_the_order_of_the_module() -> None:
    module = Small()
    assert tuple(trained_parameters(module)) == TRAINED
    trained = [value for value in module.parameters() if value.requires_grad]
    assert all(one is other for one, other in zip(trained_parameters(module).values(), trained, strict=True))


def test_a_parameter_with_two_names_is_there_once() -> None:
    module = nn.ModuleDict({"one": nn.Linear(2, 2, bias=False), "two": nn.Linear(2, 2, bias=False)})
    module["two"].weight = module["one"].weight
    assert list(trained_parameters(module)) == ["one.weight"]


def test_what_is_remembered_of_a_slot_comes_back_and_the_rest_is_zero() -> None:
    bias = torch.tensor([1.0, 2.0])
    memory = {in_memory("control", "out.bias"): bias, in_memory("other", "out.weight"): torch.ones(2, 4)}
    found = recalled(Device().start(Small(), "scaffold", memory=memory), "control")
    assert found["out.bias"].tolist() == [1.0, 2.0]
    assert found["out.weight"].tolist() == torch.zeros(2, 4).tolist()


def test_what_is_remembered_of_a_short_type_has_32_bits() -> None:
    found = recalled(Device().start(Small().to(torch.bfloat16), "scaffold"), "control")
    assert {value.dtype for value in found.values()} == {torch.float32}
