from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from p2pfl.errors import DataDirectoryError
from p2pfl.schema import (
    FrozenTensors,
    Schema,
    TensorSpec,
    canonical,
    frozen_mark,
    header,
    layout_of,
    parse_header,
)
from p2pfl.store.assemble import TensorFile, assemble

FROZEN = canonical([TensorSpec("body.weight", "F64", (2,)), TensorSpec("body.count", "I64", (), True)])
SHARED = canonical(
    [
        TensorSpec("head.weight", "F32", (2,)),
        TensorSpec("head.mean", "F32", (1,), True),
        frozen_mark(FrozenTensors("ab" * 32, layout_of(FROZEN))),
    ]
)


def put(path: Path, schema: Schema, *values: bytes) -> Path:
    path.write_bytes(header(schema) + b"".join(values))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return put(tmp_path / "model", SHARED, np.arange(3, dtype="<f4").tobytes())


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    return put(
        tmp_path / "frozen", FROZEN, np.array([7], "<i8").tobytes(), np.array([8.0, 9.0], "<f8").tobytes()
    )


def test_tensors_of_all_files_are_in_the_result_and_the_mark_is_not(
    tmp_path: Path, model: Path, frozen: Path
) -> None:
    memory = tmp_path / "memory"
    safetensors.numpy.save_file(
        {"personal:tail.bias": np.array([5, 6], "<f4"), "control.body": np.zeros(9)}, memory
    )
    whole = tmp_path / "whole"
    with whole.open("wb") as target:
        assemble(model, [TensorFile(frozen), TensorFile(memory, "personal:")], target)
    found = safetensors.numpy.load_file(whole)
    assert {name: value.tolist() for name, value in found.items()} == {
        "body.count": 7,
        "body.weight": [8.0, 9.0],
        "head.mean": [0.0],
        "head.weight": [1.0, 2.0],
        "tail.bias": [5.0, 6.0],
    }


def test_the_result_has_the_canonical_layout(tmp_path: Path, model: Path, frozen: Path) -> None:
    target = io.BytesIO()
    assemble(model, [TensorFile(frozen)], target)
    schema = parse_header(target.getvalue())
    assert schema == canonical([*(spec for spec in SHARED if spec.elements), *FROZEN])


def test_metadata_of_the_model_stay(tmp_path: Path) -> None:
    text = json.dumps({"__metadata__": {"p2pfl": "all of it"}}).encode()
    (tmp_path / "model").write_bytes(len(text).to_bytes(8, "little") + text)
    target = io.BytesIO()
    assemble(tmp_path / "model", [], target)
    assert json.loads(target.getvalue()[8:]) == {"__metadata__": {"p2pfl": "all of it"}}


@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"\2\0\0\0\0\0\0\0[]"])
def test_a_file_that_is_none_is_told(tmp_path: Path, model: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(DataDirectoryError, match=r"bad cannot be read .* export the model on another node"):
        assemble(model, [TensorFile(tmp_path / "bad")], io.BytesIO())


def test_a_file_that_ends_too_early_is_told(model: Path, frozen: Path) -> None:
    frozen.write_bytes(frozen.read_bytes()[:-1])
    with pytest.raises(DataDirectoryError, match=r"ends inside the tensor body\.weight"):
        assemble(model, [TensorFile(frozen)], io.BytesIO())
