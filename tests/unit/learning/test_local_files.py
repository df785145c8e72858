from __future__ import annotations

from pathlib import Path

import torch

from p2pfl.learning.local_files import frozen_file, memory_files, memory_folder
from p2pfl.learning.memory import RunMemory


def test_memory_and_frozen_tensors_are_beside_the_blobs(tmp_path: Path) -> None:
    assert memory_folder(tmp_path / "blobs") == tmp_path / "memory"
    assert frozen_file(tmp_path / "blobs", "ab" * 32) == tmp_path / "frozen" / ("ab" * 32)


def test_files_of_a_memory_are_found_by_update_the_oldest_first(tmp_path: Path) -> None:
    memory = RunMemory(memory_folder(tmp_path / "blobs"), "aa" * 32)
    for round_, update in ((10, "11" * 32), (9, "22" * 32)):
        memory.remember(round_, update, {"x": torch.ones(1)}, keep="")
    (tmp_path / "memory" / ("aa" * 16) / f"11-{'33' * 16}.part").write_bytes(b"")
    assert list(memory_files(tmp_path / "blobs", "aa" * 32)) == ["22" * 16, "11" * 16]
    assert memory_files(tmp_path / "blobs", "bb" * 32) == {}
