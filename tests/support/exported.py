"""Exported models for tests: the file that `p2pfl export` would write for a module."""

from __future__ import annotations

from pathlib import Path

import msgspec
from torch import nn

import p2pfl
from p2pfl.cards import Agreement
from p2pfl.events import RoundRow
from p2pfl.learning import weights
from p2pfl.learning.exports.model_info import ModelInfo, describe_model
from p2pfl.messages import Genesis
from p2pfl.schema import layout_of
from p2pfl.spec import RunSpec
from p2pfl.store.export import export_blob
from tests.support.records import genesis

METRICS = {"accuracy": 0.9, "loss": 0.25}


def a_row(run: str = "ab" * 32, digest: str = "00" * 32) -> RoundRow:
    """Return the row of round 3 of a run."""
    return RoundRow(
        run=run, round=4, kind="train", attempt=1, aggregator="ada", digest=digest, parent="11" * 32,
        record="22" * 32, members=("ada", "ben"), updates=(), left_out=(), metrics=dict(METRICS), examples=50,
        scores=(), seconds=1.0, note="", then="go", trained=3,
    )  # fmt: skip


def info_of(spec: RunSpec, agreement: Agreement, digest: str = "00" * 32) -> ModelInfo:
    """Return what a model of *spec* says about itself."""
    return describe_model(_genesis(spec, agreement), a_row(digest=digest), p2pfl.__version__)


def export_module(folder: Path, module: nn.Module, spec: RunSpec, agreement: Agreement) -> Path:
    """Write *module* as an exported model; return its path."""
    half = folder / "model.half"
    digest = weights.save(half, module, durable=False)
    blob = half.rename(folder / digest)
    target = folder / "model.safetensors"
    layout = layout_of(weights.schema_of(module))
    metadata = info_of(spec, agreement, digest).metadata()
    export_blob(blob, layout, target, force=True, metadata=metadata)
    return target


def _genesis(spec: RunSpec, agreement: Agreement) -> Genesis:
    return msgspec.structs.replace(genesis(), spec=spec, agreement=agreement)
