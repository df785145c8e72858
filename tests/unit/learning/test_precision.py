from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from p2pfl.learning import precision
from p2pfl.learning.precision import Precision, choose_precision, short_type

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """No result of another test is known here, and none of these elsewhere."""
    short_type.cache_clear()
    yield
    short_type.cache_clear()


def _product(chosen: Precision) -> torch.dtype:
    with chosen.autocast():
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def _cpu_that_has(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr(precision, "_cpu_has", lambda feature: feature in features)


def test_a_cpu_with_bfloat16_computes_in_it_if_that_is_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu_that_has(monkeypatch, "amx_bf16")
    assert _product(choose_precision(CPU, "mixed")) == torch.bfloat16
    assert _product(choose_precision(CPU, "full")) == torch.float32


def test_a_device_without_it_trains_in_full_precision_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _cpu_that_has(monkeypatch)
    with caplog.at_level(logging.WARNING):
        chosen = [choose_precision(CPU, "mixed") for _ in range(3)]
    assert [_product(one) for one in chosen] == [torch.float32] * 3
    assert caplog.messages == ["The device (cpu) has no mixed precision: it trains in full precision."]


@pytest.mark.parametrize(("has_bf16", "short"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_uses_float16_where_it_has_no_bfloat16(
    has_bf16: bool, short: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert short_type("cuda") == short


def test_only_float16_scales_the_loss() -> None:
    assert Precision("cpu", None).scaler is None
    assert Precision("cpu", torch.bfloat16).scaler is None
    scaler = Precision("cpu", torch.float16).scaler
    assert scaler is not None
    assert scaler.scale(torch.ones(())).item() == 4096


def test_the_features_of_a_cpu_come_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True, "neon": False}, raising=False)
    assert precision._cpu_has("bf16")
    assert not precision._cpu_has("neon")
    assert not precision._cpu_has("amx_bf16")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not precision._cpu_has("bf16")
