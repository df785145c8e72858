from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from p2pfl.errors import BlobError
from p2pfl.learning import weights
from p2pfl.learning.slots import Slots, read_slots, slot_dtype, slot_pieces
from p2pfl.schema import Schema
from p2pfl.spec import slot_schema
from tests.support.learning import Mixed

SCHEMA = weights.schema_of(Mixed())
SLOTS = ("first", "second")


def _numbers(schema: Schema = SCHEMA) -> Slots:
    """Different numbers for each slot and element of the floating-point tensors."""
    generator = torch.Generator().manual_seed(1)
    floats = [one for one in schema if weights.TORCH_DTYPES[one.dtype].is_floating_point]
    return {slot: {one.name: torch.randn(one.shape, generator=generator) for one in floats} for slot in SLOTS}


def _write(path: Path, numbers: Slots) -> None:
    weights.write(path, slot_schema(SCHEMA, tuple(numbers)), slot_pieces(numbers, SCHEMA))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "state", _numbers())
    with weights.ModelFile(tmp_path / "state") as file:
        found = read_slots(file, SCHEMA, SLOTS)
    for slot, tensors in _numbers().items():
        assert sorted(found[slot]) == sorted(tensors)
        for name, value in tensors.items():
            assert torch.equal(found[slot][name], value)


def test_integers_and_booleans_have_no_slots() -> None:
    assert {"steps", "mask"}.isdisjoint(_numbers()["first"])


def test_a_tensor_that_is_missing_is_zero(tmp_path: Path) -> None:
    _write(tmp_path / "state", {"only": {"scale": torch.tensor(2.0)}})
    with weights.ModelFile(tmp_path / "state") as file:
        found = read_slots(file, SCHEMA, ["only"])["only"]
    assert found["scale"].item() == 2.0
    assert not found["weight"].any()


def test_a_parameter_that_trains_is_written_as_its_values(tmp_path: Path) -> None:
    module = Mixed(seed=3)
    _write(tmp_path / "state", {"only": dict(module.named_parameters())})
    with weights.ModelFile(tmp_path / "state") as file:
        found = read_slots(file, SCHEMA, ["only"])["only"]
    assert torch.equal(found["weight"], module.weight.detach())


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _write(path, _numbers())
    with weights.ModelFile(path) as file:
        os.truncate(path, path.stat().st_size - 4)
        with pytest.raises(BlobError, match="ends inside"):
            read_slots(file, SCHEMA, SLOTS)


@pytest.mark.parametrize(
    ("dtype", "slots"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_slots_have_32_bits_and_those_of_64_bits_have_64(dtype: torch.dtype, slots: torch.dtype) -> None:
    assert slot_dtype(dtype) == slots
