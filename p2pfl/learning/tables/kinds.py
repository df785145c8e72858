"""Decides what a column of a table is: a number or a category, and what about it is refused or noted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pfl.agreement import MAX_NUMBER_CLASSES
from p2pfl.cards import MAX_CATEGORIES, ColumnCard
from p2pfl.errors import TaskError
from p2pfl.learning.tables.columns import ColumnReader
from p2pfl.text import one_line

TargetKind = Literal["auto", "class", "number"]

IDENTIFIER_SHARE = 0.9
"""Share of different texts among the values from which a column with very many texts is refused."""

MIN_ROWS = 20
"""Fewer values can all differ by chance."""

_DATE = re.compile(
    r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(\d{2}|\d{4}))([ T]\d{1,2}:\d{2}.*)?\Z"
)
"""2024-01-31, 31.1.2024, 1/31/24, each also with a time."""


@dataclass(frozen=True)
class Feature:
    """A column from which the target is predicted."""

    card: ColumnCard
    shift: float
    """A cell of a number is stored as its value minus this; a cell of a category as an index into the
    categories of the card, and as their number if it is none of them. Missing values are NaN."""


@dataclass(frozen=True)
class TargetColumn:
    """The column to predict. It has `classes`, `numbers`, or both where the run decides."""

    card: ColumnCard
    """Its categories are the labels, in the order of `classes`."""
    classes: NDArray[np.uint8] | None
    """[rows]: indices into the categories of the card, of which there are at most `MAX_CATEGORIES`."""
    numbers: NDArray[np.float32] | None
    """[rows]: values minus `shift`."""
    shift: float


Lookup = NDArray[np.float32] | None
"""What each stored code becomes, with that of a missing value at the end; None: the column is not coded."""


def feature_of(column: ColumnReader, notes: list[str], *, is_category: bool) -> tuple[Feature, Lookup]:
    """Return what *column* is; append to *notes* what is unusual. *is_category*: the run has decided so.

    Raises:
        TaskError: the column holds dates or identifiers.
    """
    lookup: Lookup = None
    if column.is_coded and not is_category and column.odd is None:
        lookup = column.begin_measuring()
    if column.is_coded:
        return _category_of(column, notes, is_checked=not is_category)
    moments = column.moments
    if moments.count and moments.spread <= (1e-12 * moments.mean) ** 2 * moments.count:
        notes.append(f"the column {column.label} is constant")
    card = ColumnCard(
        column.name, "number", moments.count, column.missing, mean=moments.mean, spread=moments.spread
    )
    if not moments.count:
        notes.append(f"the column {column.label} has no values")
    return Feature(card, column.shift), lookup


def _category_of(column: ColumnReader, notes: list[str], *, is_checked: bool) -> tuple[Feature, Lookup]:
    values, texts = int(column.counts.sum()), column.texts
    if is_checked:
        _refuse_dates(column)
        if len(texts) > MAX_CATEGORIES and len(texts) >= IDENTIFIER_SHARE * values:
            raise column.too_many_texts()
        if len(texts) == values >= MIN_ROWS:
            notes.append(
                f"the column {column.label} has another text in every row: leave it out if it is an "
                "identifier"
            )
        elif column.odd is not None and np.isfinite(column.numbers).any():
            text, line = column.odd
            notes.append(
                f"the column {column.label} holds numbers and text ({one_line(text, 30)!r} in line {line}): "
                "it is taken as categories"
            )
        if len(texts) == 1:
            notes.append(f"the column {column.label} is constant")
    order = sorted(range(len(texts)), key=lambda code: (-column.counts[code], texts[code]))
    if len(order) > MAX_CATEGORIES:
        notes.append(
            f"the column {column.label} has {len(order)} different texts: all but the {MAX_CATEGORIES} most "
            "frequent count as unknown"
        )
    categories = tuple(sorted(texts[code] for code in order[:MAX_CATEGORIES]))
    index = {text: place for place, text in enumerate(categories)}
    lookup = [index.get(text, len(categories)) for text in texts]
    card = ColumnCard(column.name, "category", values, column.missing, categories=categories)
    return Feature(card, 0.0), np.array([*lookup, math.nan], np.float32)


def _refuse_dates(column: ColumnReader) -> None:
    if column.texts and all(_DATE.match(text) for text in column.texts):
        raise TaskError(
            f"The column {column.label} holds dates ({column.texts[0]!r}); give it as a number, for instance "
            "the age in years, or leave it out."
        )


def target_of(
    column: ColumnReader, cells: NDArray[np.float32], kind: TargetKind, notes: list[str]
) -> TargetColumn:
    """Return the target *column*, whose *cells* [rows] are stored as `ColumnReader.take` returned them.

    Raises:
        TaskError: the column holds dates, or too many texts.
    """
    if not column.is_coded:
        return TargetColumn(_target_card(column, ()), None, cells, column.shift)
    if column.odd is not None:
        return _text_target(column, cells, notes)
    labels = [_label(number) for number in column.numbers]
    different = tuple(sorted(set(labels), key=float))
    is_whole = all(number.is_integer() for number in column.numbers)
    few = kind == "auto" and is_whole and len(different) <= MAX_NUMBER_CLASSES
    classes = None
    if few or (kind == "class" and len(different) <= MAX_CATEGORIES):
        classes = _indices(different, labels, cells)
        _note_one_class(different, notes)
    else:
        different = ()
    lookup = column.begin_measuring()
    return TargetColumn(
        _target_card(column, different), classes, lookup[cells.astype(np.int64)], column.shift
    )


def _text_target(column: ColumnReader, cells: NDArray[np.float32], notes: list[str]) -> TargetColumn:
    _refuse_dates(column)
    labels = tuple(sorted(column.texts))
    if len(labels) > MAX_CATEGORIES:
        assert column.odd is not None
        text, line = column.odd
        raise TaskError(
            f"The target {column.label} has {len(labels)} different texts ({one_line(text, 30)!r} in line "
            f"{line}), and {MAX_CATEGORIES} classes are possible; a target of numbers must hold no text."
        )
    _note_one_class(labels, notes)
    card = ColumnCard(column.name, "category", len(cells), 0, categories=labels)
    return TargetColumn(card, _indices(labels, column.texts, cells), None, 0.0)


def _indices(labels: Sequence[str], texts: Sequence[str], cells: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index into *labels* of each of the *cells*, which are indices into *texts*."""
    index = {label: place for place, label in enumerate(labels)}
    return np.array([index[text] for text in texts], np.uint8)[cells.astype(np.int64)]


def _target_card(column: ColumnReader, labels: tuple[str, ...]) -> ColumnCard:
    moments = column.moments
    return ColumnCard(
        column.name, "number", moments.count, 0, mean=moments.mean, spread=moments.spread, categories=labels
    )


def _note_one_class(labels: tuple[str, ...], notes: list[str]) -> None:
    if len(labels) == 1:
        notes.append(f"all rows have the class {one_line(labels[0], 40)!r}")


def _label(number: float) -> str:
    """Return the name of a class that is written as a number: the same for 1, 1.0 and 1,0."""
    return str(int(number)) if number.is_integer() else repr(number)
