from __future__ import annotations

import numpy as np
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.tables.columns import ColumnReader
from p2pfl.learning.tables.kinds import Feature, TargetColumn, TargetKind, feature_of, target_of


def feature(*cells: str, is_category: bool = False) -> tuple[Feature, list[float], list[str]]:
    """Return the feature of *cells*, as what they are stored, and the notes."""
    column, notes = ColumnReader("x", ",", "category" if is_category else None), list[str]()
    codes = column.take(cells, range(2, len(cells) + 2))
    found, lookup = feature_of(column, notes, is_category=is_category)
    assert lookup is not None
    return found, lookup[codes.astype(int)].tolist(), notes


def target(*cells: str, kind: TargetKind = "auto") -> tuple[TargetColumn, list[str]]:
    column, notes = ColumnReader("y", ","), list[str]()
    return target_of(column, column.take(cells, range(2, len(cells) + 2)), kind, notes), notes


def test_numbers_are_told_with_their_statistics() -> None:
    found, stored, notes = feature("1", "3", "", "5.0", "3")
    card = found.card
    assert (card.kind, card.values, card.missing, card.mean, card.spread) == ("number", 4, 1, 3.0, 8.0)
    assert card.categories == ()
    assert (found.shift, notes) == (3.0, [])
    assert stored[:2] == [-2.0, 0.0]
    assert np.isnan(stored[2])


def test_texts_are_categories_in_order() -> None:
    found, stored, notes = feature("m", "f", "", "m")
    assert found.card.kind == "category"
    assert found.card.categories == ("f", "m")
    assert (found.card.values, found.card.missing) == (3, 1)
    assert (stored[:2], stored[3], notes) == ([1.0, 0.0], 1.0, [])
    assert np.isnan(stored[2])


@pytest.mark.parametrize("words", [("True", "False"), ("yes", "no")])
def test_booleans_in_words_are_categories_and_as_digits_numbers(words: tuple[str, str]) -> None:
    assert feature(*words)[0].card.categories == tuple(sorted(words))
    assert feature("0", "1")[0].card.kind == "number"


def test_the_most_frequent_texts_are_kept_and_the_others_unknown() -> None:
    cells = [f"c{index:03}" for index in range(100)] * 2 + ["rare", *["often"] * 3]
    found, stored, notes = feature(*cells)
    assert len(found.card.categories) == 100
    assert "often" in found.card.categories
    assert "c099" not in found.card.categories
    assert stored[200] == stored[99] == 100.0
    assert notes == ["the column 'x' has 102 different texts: all but the 100 most frequent count as unknown"]


@pytest.mark.parametrize(
    "cells",
    [
        ("2024-01-31", "1999-12-01"),
        ("31.1.2024", "1.12.99"),
        ("1/31/24", ""),
        ("2024-01-31 12:30:00", "2024-01-31T12:30"),
    ],
)
def test_dates_are_refused_with_advice(cells: tuple[str, ...]) -> None:
    with pytest.raises(
        TaskError, match=r"'x' holds dates \(.*\); give it as a number, for instance the age in years"
    ):
        feature(*cells)
    with pytest.raises(TaskError, match="'y' holds dates"):
        target(*cells)
    assert feature(*cells, is_category=True)[0].card.kind == "category"


def test_identifiers_are_refused_or_noted() -> None:
    with pytest.raises(TaskError, match=r"another text in nearly every row \('id0', ..\)"):
        feature(*(f"id{index}" for index in range(101)))
    assert feature(*(f"id{index}" for index in range(20)))[2] == [
        "the column 'x' has another text in every row: leave it out if it is an identifier"
    ]
    assert feature(*(f"id{index}" for index in range(19)))[2] == []


def test_text_among_numbers_is_noted() -> None:
    assert feature("1", "2", "n/k")[2] == [
        "the column 'x' holds numbers and text ('n/k' in line 4): it is taken as categories"
    ]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (("3", "3.0", ""), "is constant"),
        (("a", "a"), "is constant"),
        (("0.1", "0.1", "0.1"), "is constant"),
        (("", "NA"), "has no values"),
    ],
)
def test_columns_that_say_nothing_are_noted(cells: tuple[str, ...], note: str) -> None:
    assert feature(*cells)[2] == [f"the column 'x' {note}"]


def test_a_target_of_text_is_a_class() -> None:
    found, notes = target("b", "a", "b")
    assert (found.card.kind, found.card.categories, found.card.values) == ("category", ("a", "b"), 3)
    assert found.classes is not None
    assert (found.classes.tolist(), found.numbers, notes) == ([1, 0, 1], None, [])


def test_a_target_of_few_whole_numbers_may_be_either() -> None:
    found, _ = target("10", "2.0", "2")
    assert (found.card.kind, found.card.categories) == ("number", ("2", "10"))
    assert found.classes is not None
    assert found.numbers is not None
    assert found.classes.tolist() == [1, 0, 0]
    assert (found.numbers + found.shift).tolist() == pytest.approx([10, 2, 2])
    assert found.card.mean == pytest.approx(14 / 3)


@pytest.mark.parametrize(
    ("cells", "kind", "classes"),
    [
        (tuple(str(index) for index in range(20)), "auto", 20),
        (tuple(str(index) for index in range(21)), "auto", 0),
        (tuple(str(index) for index in range(100)), "class", 100),
        (tuple(str(index) for index in range(101)), "class", 0),
        (("0.5", "1"), "auto", 0),
        (("0.5", "1"), "class", 2),
        (("0", "1"), "number", 0),
    ],
)
def test_a_target_of_numbers_is_a_class_if_it_is_small_or_the_run_says_so(
    cells: tuple[str, ...], kind: TargetKind, classes: int
) -> None:
    found, _ = target(*cells, kind=kind)
    assert len(found.card.categories) == classes
    assert (found.classes is None) == (classes == 0)
    assert found.numbers is not None


def test_a_target_with_too_many_texts_is_refused() -> None:
    with pytest.raises(
        TaskError, match=r"has 101 different texts \('t0' in line 2\), and 100 classes are possible"
    ):
        target(*(f"t{index}" for index in range(101)))


@pytest.mark.parametrize("cells", [("a", "a"), ("1", "1.0")])
def test_a_single_class_is_noted(cells: tuple[str, ...]) -> None:
    assert target(*cells)[1] == [f"all rows have the class {cells[0]!r}"]
