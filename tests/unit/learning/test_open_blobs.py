from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfl.errors import BlobError
from p2pfl.learning import aggregation, weights
from p2pfl.schema import Schema
from p2pfl.work import UnreadableUpdate
from tests.support.aggregating import MEAN, aggregate_files, write_numbers
from tests.support.learning import make_spec


def test_an_update_that_is_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("u0", "u1"):
        write_numbers(tmp_path / name, "F32", [1, 2])

    def cut_and_write(path: Path, schema: Schema) -> weights.ModelWriter:
        os.truncate(tmp_path / "u1", (tmp_path / "u1").stat().st_size - 4)  # after it was opened
        return weights.ModelWriter(path, schema)

    monkeypatch.setattr(aggregation, "ModelWriter", cut_and_write)
    result = aggregate_files(tmp_path, [("u0", 1), ("u1", 1)])
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "u1"
    assert "u1 ends inside w F32" in result.reason
    assert not (tmp_path / MEAN).exists()


def test_an_update_that_is_missing_is_named(tmp_path: Path) -> None:
    write_numbers(tmp_path / "u0", "F32", [1, 2])
    result = aggregate_files(tmp_path, [("u0", 1), ("gone", 1)])
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "gone"
    assert "cannot be opened" in result.reason


def test_a_parent_that_cannot_be_read_where_it_is_needed_fails_the_job(tmp_path: Path) -> None:
    write_numbers(tmp_path / "u", "F32", [float("inf")])
    with pytest.raises(BlobError, match="parent cannot be opened"):
        aggregate_files(tmp_path, [("u", 1)])


def test_an_update_that_is_cut_short_before_the_pass_for_products_is_named(tmp_path: Path) -> None:
    for number in range(3):
        write_numbers(tmp_path / f"u{number}", "F32", [1, 2])
    (tmp_path / "parent").symlink_to(tmp_path / "u0")
    (tmp_path / "u2").unlink()
    updates = [(f"u{number}", 1) for number in range(3)]
    result = aggregate_files(tmp_path, updates, spec=make_spec(strategy="geometric-median"))
    assert isinstance(result, UnreadableUpdate)
    assert result.digest == "u2"
