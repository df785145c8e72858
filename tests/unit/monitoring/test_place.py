from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pfl.monitoring import place
from p2pfl.monitoring.place import DataPlace
from p2pfl.store.directory import LEAST_FREE_BYTES


def test_a_place_with_room_has_no_fault(tmp_path: Path) -> None:
    assert DataPlace(tmp_path).fault() == ""
    assert DataPlace(tmp_path).free_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_a_place_that_is_gone_is_a_fault_and_has_no_size(tmp_path: Path) -> None:
    gone = DataPlace(tmp_path / "gone")
    assert gone.free_bytes() is None
    assert gone.fault() == f"the data directory {tmp_path}/gone cannot be written to"


def test_a_full_disk_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.DataPlace, "free_bytes", lambda self: LEAST_FREE_BYTES - 1)
    assert DataPlace(tmp_path).fault() == f"only 105 MB are free for the data directory {tmp_path}"
    monkeypatch.setattr(place.DataPlace, "free_bytes", lambda self: LEAST_FREE_BYTES)
    assert DataPlace(tmp_path).fault() == ""
