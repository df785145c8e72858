from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import p2pfl
from p2pfl.errors import UserError
from tests.support.simulated import QUICK


@pytest.fixture(scope="module")
def result() -> p2pfl.SimulationResult:
    return p2pfl.simulate(**QUICK)


def test_the_model_is_that_of_the_last_round(result: p2pfl.SimulationResult) -> None:
    assert result.digest == result.history[-1].digest
    assert result.model.classes == tuple("0123456789")
    assert not result.model.training
    assert set(result.state_dict()) == set(result.model.module.state_dict())


def test_a_saved_model_is_loaded_as_an_exported_one(result: p2pfl.SimulationResult, tmp_path: Path) -> None:
    result.save(tmp_path / "model.safetensors")
    loaded = p2pfl.load(tmp_path / "model.safetensors")
    for name, tensor in result.state_dict().items():
        assert torch.equal(tensor, loaded.module.state_dict()[name])
    assert loaded.info == result.info
    assert loaded.info.metrics == result.history[-1].metrics
    assert (loaded.info.round, loaded.info.record) == (2, "")


def test_a_place_that_cannot_be_written_is_an_error(result: p2pfl.SimulationResult, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written to .*; name another file"):
        result.save(tmp_path / "none" / "model.safetensors")


def test_the_rounds_are_a_table(result: p2pfl.SimulationResult) -> None:
    frame = result.frame()
    assert list(frame.index) == [1, 2]
    assert frame["accuracy"].tolist() == [row.metrics["accuracy"] for row in result.history]
    assert {"loss", "best", "training_loss", "seconds", "clients", "digest"} <= set(frame.columns)


def test_without_pandas_a_table_says_what_to_install(
    result: p2pfl.SimulationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'p2pfl-lan\[pandas\]'"):
        result.frame()


@pytest.mark.parametrize(
    "options", [{"personal": "out.*"}, {"lora": {"target": ["hidden1"], "rank": 2, "train": ["out.*"]}}]
)
def test_a_saved_model_has_also_what_is_not_exchanged(tmp_path: Path, options: dict[str, Any]) -> None:
    result = p2pfl.simulate(**{**QUICK, **options})
    result.save(tmp_path / "model.safetensors")
    loaded = p2pfl.load(tmp_path / "model.safetensors").module.eval()
    inputs = torch.rand(3, 1, 8, 8)
    assert torch.allclose(loaded(inputs), result.model.module(inputs), atol=1e-6)


def test_a_result_is_shown_in_one_line(result: p2pfl.SimulationResult) -> None:
    shown = repr(result)
    assert shown.startswith("<SimulationResult of digits, model 2nn, 4 clients, ")
    assert f"after 2 rounds: accuracy {result.history[-1].metrics['accuracy']:.4f}" in shown
    assert len(shown) < 300
