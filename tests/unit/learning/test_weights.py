from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file
from torch import nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.learning import weights
from p2pfl.schema import TensorSpec, canonical, file_bytes, header, parse_header
from tests.support.learning import Mixed


def test_a_saved_model_is_a_canonical_file_named_by_its_digest(tmp_path: Path) -> None:
    module = Mixed()
    digest = weights.save(tmp_path / "m", module)
    content = (tmp_path / "m").read_bytes()
    assert digest == blake3(content).hexdigest()
    assert parse_header(content) == weights.schema_of(module)
    assert len(content) == file_bytes(weights.schema_of(module))


def test_the_safetensors_library_reads_what_is_written(tmp_path: Path) -> None:
    module = Mixed()
    weights.save(tmp_path / "m", module)
    read = load_file(tmp_path / "m")
    assert read.keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_loading_restores_every_tensor_in_place(tmp_path: Path) -> None:
    source, target = Mixed(seed=1, steps=9), Mixed(seed=2)
    weights.save(tmp_path / "m", source)
    memory = target.weight.data_ptr()
    weights.load_into(tmp_path / "m", target)
    assert target.weight.data_ptr() == memory
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_a_released_module_keeps_its_schema_and_takes_its_memory_again_when_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SMALL_BYTES", 300 * 300 * 4)
    module = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
    schema, digest = weights.schema_of(module), weights.save(tmp_path / "m", module)
    weights.release(module)
    assert weights.schema_of(module) == schema
    assert module.get_parameter("0.weight").untyped_storage().nbytes() == 4
    weights.load_into(tmp_path / "m", module)
    assert weights.save(tmp_path / "n", module) == digest
    module(torch.ones(2, 300)).sum().backward()
    gradient = module.get_parameter("0.weight").grad
    assert gradient is not None
    assert gradient.shape == (300, 300)


def test_a_small_module_keeps_its_memory() -> None:
    module = nn.Linear(300, 300)
    memory, before = module.weight.data_ptr(), module.weight.clone()
    weights.release(module)
    assert module.weight.data_ptr() == memory
    assert torch.equal(module.weight, before)


def test_tensors_in_pieces_give_the_same_file_as_whole_ones(tmp_path: Path) -> None:
    values = torch.arange(10, dtype=torch.float32)
    schema = (TensorSpec("w", "F32", (2, 5)),)
    whole = weights.write(tmp_path / "a", schema, [values.reshape(2, 5)])
    assert weights.write(tmp_path / "b", schema, [values[:3], values[3:]]) == whole


def test_a_tensor_that_is_not_contiguous_is_written_in_its_own_order(tmp_path: Path) -> None:
    value = torch.arange(6, dtype=torch.int64).reshape(2, 3).t()
    weights.write(tmp_path / "m", (TensorSpec("w", "I64", (3, 2)),), [value])
    assert torch.equal(load_file(tmp_path / "m")["w"], value)


@pytest.mark.parametrize("name", sorted(weights.TORCH_DTYPES))
def test_every_dtype_is_written_and_read(tmp_path: Path, name: str) -> None:
    value = torch.tensor([0, 1, 1, 0, 1], dtype=torch.uint8).to(weights.TORCH_DTYPES[name])
    schema = canonical([TensorSpec("w", name, (5,))])
    weights.write(tmp_path / "m", schema, [value])
    with weights.ModelFile(tmp_path / "m") as file:
        assert file.schema == schema
        read = torch.empty_like(value)
        file.read_into(read)
    assert read.tolist() == value.tolist()


def test_a_tensor_that_is_not_contiguous_is_loaded_in_its_own_order(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    target.weight.data = torch.zeros(2, 3).t()
    weights.save(tmp_path / "m", source)
    weights.load_into(tmp_path / "m", target)
    assert torch.equal(target.weight, source.weight)


def test_runs_are_neighbours_of_one_dtype_in_file_order(tmp_path: Path) -> None:
    schema = canonical(
        [
            TensorSpec("a", "I64", (5,)),
            TensorSpec("b", "I64", (0,)),
            TensorSpec("c", "I64", (2, 1)),
            TensorSpec("d", "F32", (1,)),
            TensorSpec("e", "U8", (0,)),
        ]
    )
    weights.write(tmp_path / "m", schema, [torch.arange(5), torch.arange(2), torch.ones(1)])
    assert weights.runs(schema) == [
        (torch.int64, 7, False),
        (torch.float32, 1, False),
    ], "a run without elements is none"
    whole, single = torch.empty(7, dtype=torch.int64), torch.empty(1)
    with weights.ModelFile(tmp_path / "m") as file:
        file.read_into(whole)
        file.read_into(single)
    assert whole.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert single.tolist() == [1.0]


def test_runs_by_kind_are_apart_from_buffers() -> None:
    schema = canonical(
        [TensorSpec("a", "F32", (5,)), TensorSpec("b", "F32", (2,), True), TensorSpec("c", "F32", (3,))]
    )
    assert weights.runs(schema) == [(torch.float32, 10, False)]
    kinds = [(run.elements, run.is_buffer) for run in weights.runs(schema, by_kind=True)]
    assert kinds == [(5, False), (2, True), (3, False)]


@pytest.mark.parametrize(("length", "tensor"), [(800_000, "b I64"), (799_999, "a I64"), (1_000_000, "b I64")])
def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path, length: int, tensor: str) -> None:
    schema = (TensorSpec("a", "I64", (10**5,)), TensorSpec("b", "I64", (10**5,)))
    weights.write(tmp_path / "m", schema, [torch.arange(2 * 10**5)])
    with weights.ModelFile(tmp_path / "m") as file:
        half = torch.empty(5 * 10**4, dtype=torch.int64)
        file.read_into(half)
        os.truncate(tmp_path / "m", len(header(schema)) + length)
        with pytest.raises(BlobError, match=f"ends inside {tensor}"):
            file.read_into(torch.empty(15 * 10**4, dtype=torch.int64))


class Dribbling(io.FileIO):
    """Gives less at a time than it is asked for, as Linux does from 2 GiB on."""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return super().readinto(buffer[:7])


def test_what_one_read_does_not_give_the_next_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.write(tmp_path / "m", (TensorSpec("a", "I64", (5,)),), [torch.arange(5)])
    with weights.ModelFile(tmp_path / "m") as file, Dribbling(tmp_path / "m") as dribbling:
        dribbling.seek(-40, io.SEEK_END)
        with monkeypatch.context() as patch:
            patch.setattr(file, "_file", dribbling)
            read = torch.empty(5, dtype=torch.int64)
            file.read_into(read)
    assert read.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keep", [0, 7, 20, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    weights.save(tmp_path / "m", Mixed())
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:keep])
    with pytest.raises(BlobError):
        weights.ModelFile(tmp_path / "m")


def test_a_file_of_another_model_is_refused_with_the_tensor_that_differs(tmp_path: Path) -> None:
    weights.save(tmp_path / "m", nn.Linear(2, 3, bias=False))
    with pytest.raises(BlobError, match=r"weight F32\[3,2\] there is weight F32\[2,3\] here"):
        weights.load_into(tmp_path / "m", nn.Linear(3, 2, bias=False))


def test_a_missing_folder_is_the_disks_refusal(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot be written"):
        weights.save(tmp_path / "none" / "m", Mixed())


def test_state_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    module = nn.Module()
    module.register_buffer("wave", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(TaskError, match=r"'wave' is torch\.complex64"):
        weights.schema_of(module)


@pytest.mark.parametrize("old", [0, 10, 100_000])
def test_a_file_that_is_written_over_has_the_new_bytes_only(tmp_path: Path, old: int) -> None:
    module = nn.Linear(3, 2)
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_bytes(b"o" * old)
    assert weights.save(first, module) == weights.save(second, module)
    assert first.read_bytes() == second.read_bytes()


def test_a_model_whose_names_take_more_than_a_header_may_is_refused_with_their_number() -> None:
    module = nn.Module()
    for number in range(3000):
        module.register_buffer(f"{number:0>2000}", torch.zeros(1))
    with pytest.raises(TaskError, match=r"has 3000 tensors, whose names and shapes take \d+ bytes"):
        weights.schema_of(module)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_element_that_is_not_finite_is_found(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.ones(3, 1000, dtype=dtype))
    assert weights.is_finite(parameter)
    assert weights.is_finite(parameter[:0])
    for value in ("nan", "inf", "-inf"):
        spoilt = parameter.detach().clone()
        spoilt[1, 7] = float(value)
        assert not weights.is_finite(spoilt)
