from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.tables import columns
from p2pfl.learning.tables.columns import ColumnReader, Kind, Moments


def read(*cells: str, separator: str = ";", wanted: Kind | None = None) -> tuple[ColumnReader, list[float]]:
    column = ColumnReader("age", separator, wanted)
    return column, column.take(cells, range(2, len(cells) + 2)).tolist()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> ColumnReader:
    """Return a column that is measured, with the shift 2.5."""
    monkeypatch.setattr(columns, "MAX_CODED_NUMBERS", 3)
    column, _ = read("1", "2", "3", "4")
    assert column.is_due
    column.begin_measuring()
    return column


def test_moments_of_parts_are_those_of_the_whole_even_far_from_zero() -> None:
    values = [1e9 + 0.1 * index**2 for index in range(40)]
    moments = Moments()
    for part in (values[:1], [], values[1:17], values[17:]):
        moments.add(np.array(part))
    assert moments.count == 40
    assert moments.mean == pytest.approx(statistics.fmean(values), rel=1e-15)
    assert moments.spread / 40 == pytest.approx(statistics.pvariance(values), rel=1e-8)


def test_moments_count_a_value_as_often_as_is_said() -> None:
    moments = Moments()
    moments.add(np.array([1.0, 4.0]), np.array([3, 1]))
    assert (moments.count, moments.mean, moments.spread) == (4, 1.75, 6.75)


def test_cells_become_codes_of_their_texts() -> None:
    column, codes = read("x", " y ", "x", "", "y", "NaN", "n/a", "?", "-", "NULL", "na")
    assert codes == [0, 1, 0, -1, 1, -1, -1, -1, -1, -1, -1]
    assert (column.texts, column.counts.tolist(), column.missing) == (["x", "y"], [2, 2], 7)
    assert column.odd == ("x", 2)
    column.take(["z", "x"], [20, 21])
    assert column.counts.tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("cells", "separator", "numbers"),
    [
        (("1", "2.5", "-3e2"), ",", [1, 2.5, -300]),
        (("1", "2,5", "-3,25"), ";", [1, 2.5, -3.25]),
        (("1", "2,5", "-3,25"), "\t", [1, 2.5, -3.25]),
        ((" 7 ", "7"), ",", [7]),
    ],
)
def test_numbers_are_known_with_points_and_with_commas(
    cells: tuple[str, ...], separator: str, numbers: list[float]
) -> None:
    column, _ = read(*cells, separator=separator)
    assert column.numbers == numbers
    assert column.odd is None


def test_what_is_no_number_is_remembered_with_its_line() -> None:
    assert read("1", "2,5", separator=",")[0].odd == ("2,5", 3)
    assert read("1", "n/k", "x")[0].odd == ("n/k", 3)


def test_infinite_and_huge_numbers_count_as_missing(measured: ColumnReader) -> None:
    assert read("1", "inf", "-1e300")[1] == [0, -1, -1]
    found = measured.take(["5", "inf", "-1e300"], [6, 7, 8])
    assert found[0] == 2.5
    assert np.isnan(found).tolist() == [False, True, True]
    assert (measured.missing, measured.moments.count) == (2, 5)


def test_a_column_of_many_numbers_is_measured_from_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_CODED_NUMBERS", 3)
    column, codes = read("1e9", "1000000002", "1e9", "", "1000000003", "1000000004.5")
    assert column.is_due
    lookup = column.begin_measuring()
    shift = statistics.fmean([1e9, 1e9, 1e9 + 2, 1e9 + 3, 1e9 + 4.5])
    assert column.shift == pytest.approx(shift, rel=1e-15)
    stored = lookup[np.array(codes, int)]
    assert math.isnan(stored[3])
    assert (stored.astype(float) + column.shift)[5] == pytest.approx(1e9 + 4.5, abs=1e-6)
    assert (column.take(["1000000001.25"], [9]).astype(float) + column.shift)[0] == pytest.approx(
        1e9 + 1.25, abs=1e-6
    )
    assert column.moments.count == 6


def test_a_measured_column_takes_gaps_spaces_and_commas(measured: ColumnReader) -> None:
    found = measured.take(["2", " NA ", "", "3,5"], [6, 7, 8, 9])
    assert found[[0, 3]].tolist() == [-0.5, 1.0]
    assert measured.missing == 2
    assert measured.take(["4,5"], [10]).tolist() == [2.0]


def test_text_in_a_measured_column_is_refused_with_its_line(measured: ColumnReader) -> None:
    with pytest.raises(
        TaskError, match="The column 'age' holds numbers, and in line 7 the text 'n/k': correct it"
    ):
        measured.take(["2", "n/k"], [6, 7])


def test_text_in_a_column_that_the_run_knows_as_numbers_is_refused() -> None:
    with pytest.raises(TaskError, match="in line 3 the text 'old'"):
        read("1", "old", wanted="number")


def test_a_column_with_text_or_known_as_categories_stays_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_CODED_NUMBERS", 3)
    assert not read("1", "2", "3", "4", "x")[0].is_due
    assert not read("1", "2", "3", "4", wanted="category")[0].is_due


def test_decimal_commas_and_points_in_one_column_are_refused() -> None:
    with pytest.raises(TaskError, match="with a decimal comma and with a decimal point: use one of them"):
        read("1,5", "2.5")
    assert read("1,5", "2.5", wanted="category")[1] == [0, 1]


def test_very_many_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_TEXTS", 20)
    with pytest.raises(
        TaskError, match=r"another text in nearly every row \('p0', ..\), like a name or an id"
    ):
        read(*(f"p{index}" for index in range(21)))
    with pytest.raises(TaskError, match="holds numbers, and in line 2 the text 'oops'"):
        read("oops", *(str(index) for index in range(21)))


def test_long_texts_are_cut_to_the_length_of_a_label() -> None:
    column, codes = read("a" * 64, "a" * 65)
    assert (column.texts, codes) == (["a" * 64], [0, 0])
