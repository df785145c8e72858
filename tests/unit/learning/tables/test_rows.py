from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfl.errors import TaskError
from p2pfl.learning.tables import csv_reader, rows
from p2pfl.learning.tables.rows import Wanted, read_table
from tests.support.tables import read_columns, write_table


def test_a_table_is_one_matrix_with_its_target_beside_it(tmp_path: Path) -> None:
    table = read_columns(tmp_path, "y", age=[30, 50, ""], y=["no", "yes", "no"], sex=["f", "m", "f"])
    assert [feature.card.name for feature in table.features] == ["age", "sex"]
    assert table.cells.dtype == np.float32
    assert (table.cells[:2, 0] + table.features[0].shift).tolist() == [30, 50]
    assert np.isnan(table.cells[2, 0])
    assert table.cells[:, 1].tolist() == [0, 1, 0]
    assert table.target is not None
    assert table.target.classes is not None
    assert table.target.classes.tolist() == [0, 1, 0]
    assert table.notes == ()


def test_rows_without_a_target_are_left_out_of_everything_and_counted(tmp_path: Path) -> None:
    table = read_columns(tmp_path, "y", x=[1, 1000, 3], c=["a", "b", "a"], y=["no", "?", "yes"])
    assert len(table.cells) == 2
    assert (table.features[0].card.mean, table.features[0].card.values) == (2.0, 2)
    assert table.features[1].card.categories == ("a",)
    assert table.notes[0] == "1 of 3 rows have no value of the target and are left out"


def test_pieces_blocks_and_a_late_change_of_kind_give_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    columns: dict[str, Sequence[object]] = {
        "a": [f"{value:.3f}" for value in rng.normal(5000, 2, 300)],
        "b": ["" if value < 0.1 else f"{value:.2f}" for value in rng.random(300)],
        "c": rng.choice(["x", "y", "z"], 300).tolist(),
        "y": ["NA" if value < 0.1 else f"{value:.4f}" for value in rng.random(300)],
    }
    whole = read_columns(tmp_path, "y", **columns)
    monkeypatch.setattr(csv_reader, "PIECE_CELLS", 28)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 400)
    monkeypatch.setattr(rows, "DUPLICATE_HASHES", 50)
    monkeypatch.setattr("p2pfl.learning.tables.columns.MAX_CODED_NUMBERS", 30)
    parts = read_columns(tmp_path, "y", **columns)

    def values(table: rows.Table) -> NDArray[np.float64]:
        assert table.target is not None
        assert table.target.numbers is not None
        shifts = np.array([feature.shift for feature in table.features])
        numbers = table.target.numbers.astype(float) + table.target.shift
        return np.column_stack([table.cells.astype(float) + shifts, numbers])

    np.testing.assert_allclose(values(parts), values(whole), rtol=0, atol=1e-6)
    for one, other in zip(parts.features, whole.features, strict=True):
        assert one.card.mean == pytest.approx(other.card.mean, rel=1e-12)
        assert one.card.spread == pytest.approx(other.card.spread, rel=1e-9)
        assert (one.card.values, one.card.missing) == (other.card.values, other.card.missing)
        assert one.card.categories == other.card.categories
    assert parts.notes == whole.notes


def test_equal_rows_are_counted_also_in_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: dict[str, Sequence[object]] = {
        "x": [1, 2, 1, 1, "", "", 0],
        "y": ["a", "a", "a", "b", "a", "a", "a"],
    }
    assert read_columns(tmp_path, "y", **columns).notes == (
        "2 of 7 rows are equal to another one before them",
    )
    monkeypatch.setattr(rows, "DUPLICATE_HASHES", 2)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 64)
    assert read_columns(tmp_path, "y", **columns).notes == (
        "2 of 7 rows are equal to another one before them",
    )


def test_a_column_that_numbers_the_rows_is_noted(tmp_path: Path) -> None:
    shuffled = [*range(1, 20), 21, 20]
    table = read_columns(tmp_path, "y", id=range(100, 121), x=shuffled, y=["a", "b", "c"] * 7)
    assert table.notes == ("the column 'id' numbers the rows: leave it out",)


@pytest.mark.parametrize(
    ("header", "target", "reason"),
    [
        (
            ["age", "Outcome"],
            "outcome",
            "no target 'outcome'; its columns are age, Outcome; is 'Outcome' meant?",
        ),
        (
            ["age", "outcome"],
            "outcom",
            "no target 'outcom'; its columns are age, outcome; is 'outcome' meant?",
        ),
        (["age", "sex"], "height", "no target 'height'; its columns are age, sex."),
        ([f"c{n}" for n in range(10)], "height", "c6, c7 and 2 more."),
        (
            ["5.1", "setosa"],
            "kind",
            "Line 1 of t.csv has the number '5.1' and no column 'kind': the first line has to",
        ),
        (["y"], "y", "has the target column only"),
    ],
)
def test_a_table_without_the_columns_that_are_needed_is_refused(
    tmp_path: Path, header: list[str], target: str, reason: str
) -> None:
    path = write_table(tmp_path / "t.csv", header, [["1"] * len(header)])
    with pytest.raises(TaskError) as refusal:
        read_table(path, Wanted(target))
    assert reason in str(refusal.value)


def test_years_may_be_names_of_columns(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", ["2023", "2024", "y"], [[1, 2, "a"], [2, 3, "b"]])
    assert [feature.card.name for feature in read_table(path, Wanted("y")).features] == ["2023", "2024"]


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"columns.csv has no row\."):
        read_columns(tmp_path, "y", x=[], y=[])
    with pytest.raises(TaskError, match=r"columns.csv has no row with a value of the target 'y'"):
        read_columns(tmp_path, "y", x=[1, 2], y=["", "NA"])


def test_columns_that_a_run_knows_are_read_as_it_knows_them(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", ["note", "b", "a"], [[f"n{n}", n, "1"] for n in range(200)])
    table = read_table(path, Wanted(None, kinds={"a": "category", "b": "number"}))
    assert [(one.card.name, one.card.kind) for one in table.features] == [("a", "category"), ("b", "number")]
    assert table.features[0].card.categories == ("1",)
    assert table.target is None
    with pytest.raises(TaskError, match=r"t.csv has no column 'c'; its columns are note, b, a"):
        read_table(path, Wanted(None, kinds={"c": "number"}))
    with pytest.raises(TaskError, match="in line 2 the text 'n0'"):
        read_table(path, Wanted(None, kinds={"note": "number"}))
