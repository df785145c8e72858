from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from p2pfl.errors import TaskError
from p2pfl.learning.exchange import frozen_buffers, keep_still, restore, still_modules, tensor_kinds


def network() -> nn.Sequential:
    """Return a model whose body is frozen and whose head trains."""
    body = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), drop=nn.Dropout()))
    body.requires_grad_(False)
    head = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(8, affine=False), out=nn.Linear(8, 2)))
    return nn.Sequential(OrderedDict(body=body, flat=nn.Flatten(), head=head))


def test_parameters_that_train_and_buffers_of_modules_that_train_are_shared() -> None:
    shared, personal, frozen = tensor_kinds(network())
    assert shared == (
        "head.norm.running_mean",
        "head.norm.running_var",
        "head.norm.num_batches_tracked",
        "head.out.weight",
        "head.out.bias",
    )
    assert personal == ()
    assert frozen == (
        "body.conv.weight",
        "body.conv.bias",
        "body.bn.weight",
        "body.bn.bias",
        "body.bn.running_mean",
        "body.bn.running_var",
        "body.bn.num_batches_tracked",
    )


def test_a_frozen_parameter_in_a_module_that_trains_is_frozen_and_its_buffers_are_shared() -> None:
    module = nn.BatchNorm1d(2)
    module.weight.requires_grad_(False)
    shared, _, frozen = tensor_kinds(module)
    assert frozen == ("weight",)
    assert shared == ("bias", "running_mean", "running_var", "num_batches_tracked")


def test_a_module_without_parameters_is_as_the_one_around_it() -> None:
    norm = nn.BatchNorm1d(2, affine=False)
    outer = nn.Sequential(nn.Sequential(nn.Linear(2, 2), norm).requires_grad_(False), nn.Linear(2, 1))
    assert [prefix for prefix, _ in still_modules(outer)] == ["0.", "0.0.", "0.1."]
    assert "0.1.running_mean" in tensor_kinds(outer).frozen


@pytest.mark.parametrize("module", [nn.BatchNorm1d(2, affine=False), nn.Linear(2, 1).requires_grad_(False)])
def test_all_tensors_of_a_model_in_which_nothing_trains_are_shared(module: nn.Module) -> None:
    assert tensor_kinds(module).shared == tuple(module.state_dict())


def test_tensors_that_match_a_pattern_are_personal_also_frozen_ones() -> None:
    shared, personal, frozen = tensor_kinds(network(), ("head.out.*", "*.bn.running_*"))
    assert personal == (
        "body.bn.running_mean",
        "body.bn.running_var",
        "head.out.weight",
        "head.out.bias",
    )
    assert shared == ("head.norm.running_mean", "head.norm.running_var", "head.norm.num_batches_tracked")
    assert "body.bn.running_mean" not in frozen


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(TaskError, match=r"^--personal 'tail\.\*' matches no tensor .* body\.conv\.weight,"):
        tensor_kinds(network(), ("head.*", "tail.*"))


@pytest.mark.parametrize("pattern", ["*", "head.*"])
def test_patterns_that_leave_nothing_to_exchange_are_refused(pattern: str) -> None:
    with pytest.raises(TaskError, match="leaves no tensor that trains for the devices to exchange"):
        tensor_kinds(network(), (pattern,))


def test_the_first_look_decides_also_if_a_loop_unfreezes_parameters_later() -> None:
    module = network()
    before = tensor_kinds(module)
    module.requires_grad_(True)
    assert tensor_kinds(module) == before
    module.add_module("more", nn.Linear(2, 2))
    assert "body.conv.weight" in tensor_kinds(module).shared


def test_frozen_batch_normalisation_stays_in_evaluation_and_dropout_does_not() -> None:
    module = network()
    module.train()
    keep_still(module)
    modes = {name: part.training for name, part in module.named_modules()}
    assert not modes["body.bn"]
    assert modes["body.drop"]
    assert modes["head.norm"]


def test_frozen_buffers_are_restored() -> None:
    module = network()
    kept = frozen_buffers(module)
    assert list(kept) == ["body.bn.running_mean", "body.bn.running_var", "body.bn.num_batches_tracked"]
    module.train()(torch.randn(4, 1, 4, 4))
    changed = module.state_dict()["body.bn.running_mean"].clone()
    restore(module, kept)
    assert not torch.equal(changed, kept["body.bn.running_mean"])
    assert torch.equal(module.state_dict()["body.bn.running_mean"], kept["body.bn.running_mean"])
