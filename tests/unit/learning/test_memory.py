from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from p2pfl.errors import WorkerError
from p2pfl.learning.local_files import memory_folder
from p2pfl.learning.memory import RunMemory

RUN = "f" * 64
ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


def _some(value: float) -> dict[str, Tensor]:
    return {"control/w": torch.tensor([value, 2.0]), "control/b": torch.tensor(value, dtype=torch.float64)}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name]) for name, value in one.items()
    )


def test_it_lies_beside_the_blobs(tmp_path: Path) -> None:
    assert memory_folder(tmp_path / "blobs") == tmp_path / "memory"


def test_what_is_remembered_with_an_update_is_recalled_by_another_object(tmp_path: Path) -> None:
    memory = RunMemory(tmp_path, RUN)
    memory.remember(1, ONE, _some(1.0), keep="")
    memory.remember(2, TWO, _some(3.0), keep=ONE)
    assert _same(RunMemory(tmp_path, RUN).recall(ONE), _some(1.0))
    assert _same(RunMemory(tmp_path, RUN).recall(TWO), _some(3.0))


def test_before_the_first_update_there_is_nothing_and_nothing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert RunMemory(tmp_path, RUN).recall("") == {}
    assert caplog.records == []


def test_a_lost_memory_begins_anew_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert RunMemory(tmp_path, RUN).recall(ONE) == {}
    assert "this device has lost what it remembered of this run; it begins anew" in caplog.text


def test_a_damaged_memory_begins_anew_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = RunMemory(tmp_path, RUN)
    memory.remember(1, ONE, _some(1.0), keep="")
    (file,) = (tmp_path / RUN[:32]).iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        assert memory.recall(ONE) == {}
    assert "cannot be read" in caplog.text


def test_a_run_finds_what_was_remembered_with_an_update_of_the_run_that_it_continues(tmp_path: Path) -> None:
    RunMemory(tmp_path, RUN).remember(1, ONE, _some(1.0), keep="")
    later = RunMemory(tmp_path, "e" * 64)
    assert _same(later.recall(ONE), _some(1.0))
    later.remember(3, TWO, _some(2.0), keep=ONE)
    assert _same(RunMemory(tmp_path, RUN).recall(ONE), _some(1.0)), "the folders of other runs are left alone"
    assert later.recall("9" * 64) == {}


def test_a_training_that_is_repeated_replaces_the_file(tmp_path: Path) -> None:
    memory = RunMemory(tmp_path, RUN)
    for value in (1.0, 5.0):
        memory.remember(1, ONE, _some(value), keep="")
    assert _same(memory.recall(ONE), _some(5.0))


def test_files_of_older_rounds_are_deleted_but_the_one_that_counts_and_the_last_round(tmp_path: Path) -> None:
    memory = RunMemory(tmp_path, RUN)
    for number in range(1, 5):
        memory.remember(number, str(number) * 64, _some(number), keep="")
    assert sorted(path.name[:3] for path in (tmp_path / RUN[:32]).iterdir()) == ["3-3", "4-4"]
    memory.remember(9, "9" * 64, _some(9.0), keep=THREE)
    assert sorted(path.name[:3] for path in (tmp_path / RUN[:32]).iterdir()) == ["3-3", "9-9"]


def test_a_file_of_another_name_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    memory = RunMemory(tmp_path, "run")
    memory.remember(1, "first", {"a": torch.ones(1)}, keep="")
    (tmp_path / "run" / "copy-of-it").touch()
    memory.remember(5, "second", {"a": torch.zeros(1)}, keep="")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["5-second", "copy-of-it"]


def test_a_memory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / RUN[:32]).write_text("no folder", encoding="utf-8")
    with pytest.raises(WorkerError, match=r"What this device remembers of the run cannot be written to"):
        RunMemory(tmp_path, RUN).remember(1, ONE, _some(1.0), keep="")
