from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from p2pfl.cards import Agreement
from p2pfl.errors import TaskError, UserError
from p2pfl.learning.exports.conversion import example_inputs, write_onnx, write_torchscript
from p2pfl.learning.exports.exported import LoadedModel, load
from p2pfl.learning.exports.model_info import KEY
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.tables.models import build_table_model
from tests.support.exported import export_module
from tests.support.learning import pictures_spec
from tests.support.tables import table_spec
from tests.support.user_tasks import file_spec
from tests.unit.learning.exports.test_exported import PETS, PRICES

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning"
)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    module = MODELS["lenet"](ImageShape(3, 8, 8), 3)
    return load(export_module(tmp_path, module, pictures_spec(model="lenet"), PETS))


def test_onnx_gives_the_same_outputs_for_any_batch(tmp_path: Path, model: LoadedModel) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(model, path, force=False)
    session = onnxruntime.InferenceSession(path)
    x = torch.randn(5, 3, 8, 8)
    [outputs] = session.run(["output"], {"input": x.numpy()})
    assert torch.allclose(torch.from_numpy(outputs), model(x).detach(), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map[KEY] == model.info.metadata()[KEY]


def test_torchscript_gives_the_same_outputs_for_any_batch(tmp_path: Path, model: LoadedModel) -> None:
    path = tmp_path / "model.pt"
    write_torchscript(model, path, force=False)
    extra: dict[str, Any] = {KEY: ""}
    again = torch.jit.load(path, _extra_files=extra)  # type: ignore[no-untyped-call]
    x = torch.randn(5, 3, 8, 8)
    assert torch.allclose(again(x), model(x), atol=1e-6)
    assert extra[KEY].decode() == model.info.metadata()[KEY]


def test_a_file_that_exists_is_replaced_only_by_force(tmp_path: Path, model: LoadedModel) -> None:
    path = tmp_path / "model.pt"
    path.write_text("precious")
    with pytest.raises(UserError, match="exists already; choose another name, or add --force"):
        write_torchscript(model, path, force=False)
    with pytest.raises(UserError, match="exists already"):
        write_onnx(model, path, force=False)
    assert path.read_text() == "precious"
    write_torchscript(model, path, force=True)
    assert path.read_bytes()[:2] == b"PK"
    with pytest.raises(UserError, match="its folder does not exist"):
        write_torchscript(model, tmp_path / "no" / "model.pt", force=False)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no example of mine")


def test_a_model_that_torch_cannot_export_is_explained_and_leaves_no_file(tmp_path: Path) -> None:
    path = export_module(tmp_path, Odd(), file_spec(), Agreement(("a",), 9, input_shape=(2,)))
    model = load(path, module=Odd())
    with pytest.raises(TaskError, match="torch cannot export this model as TorchScript: no example of mine"):
        write_torchscript(model, tmp_path / "model.pt", force=False)
    assert [one.name for one in tmp_path.iterdir() if "pt" in one.name] == []


def test_without_the_extra_packages_the_sentence_says_what_to_install(
    tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fail(name: str, *more: Any) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError, match=r"needs the package onnxscript.*pip install 'p2pfl-lan\[onnx\]'"):
        write_onnx(model, tmp_path / "model.onnx", force=False)


def test_examples_have_the_shape_that_the_model_takes(tmp_path: Path, model: LoadedModel) -> None:
    assert example_inputs(model).shape == (2, 3, 8, 8)
    module = build_table_model("mlp", PRICES)
    table = load(export_module(tmp_path, module, table_spec(target="price"), PRICES))
    assert example_inputs(table).shape == (2, 5)
    path = export_module(tmp_path, nn.Linear(2, 1), file_spec(), Agreement(("a",), 9))
    with pytest.raises(TaskError, match="shape of this model's inputs is not known"):
        example_inputs(load(path, module=nn.Linear(2, 1)))
