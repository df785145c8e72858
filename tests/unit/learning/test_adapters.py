from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import p2pfl
from p2pfl.agreement import agree
from p2pfl.errors import TaskError
from p2pfl.learning.adapters import LoraLinear, add_adapters
from p2pfl.learning.exchange import tensor_kinds
from p2pfl.learning.exports.exported import load
from p2pfl.learning.exports.model_info import describe_model
from p2pfl.personal_specs import LoraSpec
from p2pfl.schema import layout_of
from p2pfl.store.assemble import assemble
from p2pfl.store.export import export_blob
from tests.support.exported import a_row
from tests.support.records import genesis
from tests.support.user_tasks import Device, file_spec, write_task

ATTENTION = """
import torch
from collections import OrderedDict
from torch import nn

def model():
    attn = nn.Sequential(OrderedDict(q=nn.Linear(4, 32), v=nn.Linear(32, 32, bias=False)))
    return nn.Sequential(OrderedDict(attn=attn, act=nn.Tanh(), head=nn.Linear(32, 2))){cast}

def data():
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(1)){cast}
    return x, (x[:, 0] > 0).long()
"""


def network() -> nn.Module:
    namespace: dict[str, object] = {}
    exec(ATTENTION.format(cast=""), namespace)
    module = namespace["model"]()  # type: ignore[operator]
    assert isinstance(module, nn.Module)
    return module


def test_a_new_adapter_leaves_the_outputs_as_they_are() -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(6, 3), torch.randn(5, 6)
    before = layer(x)
    assert torch.equal(LoraLinear(layer, LoraSpec(("*",), rank=2))(x), before)


def test_an_adapter_adds_the_scaled_product_of_its_matrices() -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(6, 3), torch.randn(5, 6)
    adapted = LoraLinear(layer, LoraSpec(("*",), rank=2, alpha=6.0))
    nn.init.normal_(adapted.lora_b)
    whole = layer.weight + 6.0 / 2 * adapted.lora_b @ adapted.lora_a
    torch.testing.assert_close(adapted(x), nn.functional.linear(x, whole, layer.bias))


def test_only_adapters_train_and_are_exchanged() -> None:
    module = add_adapters(network(), LoraSpec(("attn.*",)))
    kinds = tensor_kinds(module)
    assert set(kinds.shared) == {f"attn.{layer}.lora_{matrix}" for layer in "qv" for matrix in "ab"}
    assert set(kinds.frozen) == {
        "attn.q.base.weight",
        "attn.q.base.bias",
        "attn.v.base.weight",
        "head.weight",
        "head.bias",
    }
    assert {name for name, one in module.named_parameters() if one.requires_grad} == set(kinds.shared)


def test_parameters_that_train_too_are_exchanged_too() -> None:
    module = add_adapters(network(), LoraSpec(("attn.q",), train=("head.*",)))
    assert set(tensor_kinds(module).shared) == {
        "attn.q.lora_a",
        "attn.q.lora_b",
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            LoraSpec(("mlp.*",)),
            r"--lora-target 'mlp\.\*' matches no nn\.Linear .* are attn\.q, attn\.v, head:",
        ),
        (LoraSpec(("act",)), "--lora-target 'act' matches no"),
        (LoraSpec(("head",), train=("tail",)), "--lora-train 'tail' matches no parameter"),
    ],
)
def test_patterns_that_match_nothing_are_refused(spec: LoraSpec, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        add_adapters(network(), spec)


def test_layers_of_other_classes_get_no_adapters() -> None:
    # torch.nn.MultiheadAttention reads the weight of its own kind of linear layer without calling the layer.
    module = nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 2))
    with pytest.raises(TaskError, match=r"whose linear layers are 1:"):
        add_adapters(module, LoraSpec(("0.out_proj",)))


@pytest.mark.parametrize("cast", ["", ".double()", ".bfloat16()"])
def test_an_exported_model_has_merged_weights_and_the_outputs_of_the_run(tmp_path: Path, cast: str) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir()
    file = write_task(tmp_path, ATTENTION.format(cast=cast))
    spec = file_spec(lora={"target": ("attn.*",), "rank": 2}, learning_rate=0.5)
    one = Device(file, folder, spec)
    agreement, flaw = agree(spec, {"this": one.card})
    assert agreement is not None, flaw
    update = one.train(agreement, one.create(agreement))
    sent = load_file(folder / update.digest)
    assert sum(tensor.numel() for tensor in sent.values()) == 2 * (4 + 32) + 2 * (32 + 32)
    assert one.evaluate(agreement, update.digest).examples == 8
    assert one.jobs._model is not None
    module = one.jobs._model[1].module
    target = tmp_path / "model.safetensors"
    founded = msgspec.structs.replace(genesis(), spec=spec, agreement=agreement)
    export_blob(
        folder / update.digest,
        layout_of(one.jobs._model[1].schema),
        target,
        force=False,
        metadata=describe_model(founded, a_row(), p2pfl.__version__).metadata(),
        lora_scale=spec.lora_scale,
    )
    assert set(load_file(target)) == set(network().state_dict())
    loaded = load(target, task=file)
    x = torch.randn(7, 4).to(next(module.parameters()).dtype)
    margin = 0.02 if "bfloat16" in cast else 1e-5
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), module.eval()(x), rtol=margin, atol=margin)


def test_merged_bfloat16_weights_are_rounded_as_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(2)
    layer = nn.Linear(16, 8, bias=False).bfloat16()
    adapted = LoraLinear(layer, LoraSpec(("*",), rank=4))
    nn.init.normal_(adapted.lora_b)
    product = adapted.lora_b.double() @ adapted.lora_a.double()
    expected = (layer.weight.double() + adapted.scale * product).float().bfloat16()
    save_file({f"layer.{name}": value for name, value in adapted.state_dict().items()}, tmp_path / "run")
    with (tmp_path / "whole").open("wb") as target:
        assemble(tmp_path / "run", [], target, lora_scale=adapted.scale)
    assert torch.equal(load_file(tmp_path / "whole")["layer.weight"], expected)
    (length,) = struct.unpack("<Q", (tmp_path / "whole").read_bytes()[:8])
    assert length % 8 == 0
