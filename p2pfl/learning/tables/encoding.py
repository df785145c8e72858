"""Encodes the rows of a table as the input of a model, by the agreement of a run and by nothing else.

The inputs of a column stand in the order of the agreement's columns:

- a number: its value, standardised with the agreed mean and deviation; a missing one is the mean, so 0;
- a category: one input for each agreed category and one for any other text ("unknown"), of which one is 1;
- after either, if any device of the run lacks values of the column: 1 where the value is missing, else 0.

A missing category is unknown in a column of which the run knows no missing values, and else no category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from p2pfl.cards import AgreedColumn, Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.tables.kinds import Feature, TargetColumn, TargetKind
from p2pfl.learning.tables.rows import Table, Wanted, read_table, table_of
from p2pfl.learning.tables.text import Piece, TableText
from p2pfl.text import one_line


def inputs_of(agreement: Agreement) -> int:
    """Return the number of inputs of a model for the table of *agreement*."""
    return sum(_width(column) for column in agreement.columns)


def _width(column: AgreedColumn) -> int:
    return (len(column.categories) + 1 if column.kind == "category" else 1) + column.is_gappy


class Encoder:
    """Turns rows as they are stored, [batch, features] float32, into inputs [batch, inputs] float32."""

    def __init__(self, agreement: Agreement, features: Sequence[Feature], device: torch.device) -> None:
        """*features* describe the stored columns, which are all those of *agreement*, in any order."""
        places = {feature.card.name: place for place, feature in enumerate(features)}
        numbers: list[tuple[int, int, float, float]] = []
        gaps: list[tuple[int, int]] = []
        categories: list[tuple[int, list[int]]] = []
        start = 0
        for column in agreement.columns:
            place = places[column.name]
            feature, end = features[place], start + _width(column)
            if column.kind == "number":
                numbers.append((place, start, feature.shift - column.mean, 1 / column.deviation))
                if column.is_gappy:
                    gaps.append((place, end - 1))
            else:
                categories.append((place, _slots(column, feature, start)))
            start = end
        self._inputs = start
        longest = max((len(slots) for _, slots in categories), default=0)
        # The last slot is that of a missing value; codes come before it.
        padded = [[*slots[:-1], *[slots[-1]] * (longest - len(slots) + 1)] for _, slots in categories]
        self._missing = longest - 1

        def whole(values: Sequence[object]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        def real(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self._numbers = whole([number[0] for number in numbers])
        self._values = whole([number[1] for number in numbers])
        self._offset = real([number[2] for number in numbers])
        self._factor = real([number[3] for number in numbers])
        self._gaps = whole([gap[0] for gap in gaps])
        self._indicators = whole([gap[1] for gap in gaps])
        self._categories = whole([category[0] for category in categories])
        self._slots = whole(padded)
        self._slot_rows = torch.arange(len(categories), device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the inputs of the rows *x*."""
        out = torch.zeros(len(x), self._inputs, device=x.device)  # [batch, inputs]
        if len(self._numbers):
            values = (x[:, self._numbers] + self._offset) * self._factor
            out[:, self._values] = values.nan_to_num_(nan=0.0)
        if len(self._gaps):
            out[:, self._indicators] = x[:, self._gaps].isnan().to(torch.float32)
        if len(self._categories):
            codes = x[:, self._categories].nan_to_num(nan=float(self._missing)).to(torch.int64)
            out.scatter_(1, self._slots[self._slot_rows, codes], 1.0)  # [batch, categories]
        return out


def _slots(column: AgreedColumn, feature: Feature, start: int) -> list[int]:
    """Return the input of each code of a category, of the code of unknown texts, and of a missing value."""
    index = {label: start + place for place, label in enumerate(column.categories)}
    unknown = start + len(column.categories)
    known = [index.get(label, unknown) for label in feature.card.categories]
    return [*known, unknown, unknown + column.is_gappy]


def targets_of(agreement: Agreement, target: TargetColumn) -> Tensor:
    """Return what a model is trained for: classes [rows] int64, or standardised numbers [rows, 1] float32.

    Raises:
        TaskError: the target does not fit the run.
    """
    assert agreement.target is not None
    name = repr(one_line(target.card.name, 60))
    if agreement.target.kind == "number":
        if target.numbers is None:
            raise TaskError(f"The target {name} holds text, and the run predicts a number.")
        offset, factor = target.shift - agreement.target.mean, 1 / agreement.target.deviation
        values = (target.numbers + np.float32(offset)) * np.float32(factor)
        return torch.from_numpy(values[:, None])
    if target.classes is None:
        raise TaskError(
            f"The target {name} has too many different values to be a class, as it is in the run."
        )
    index = {label: place for place, label in enumerate(agreement.classes)}
    labels = target.card.categories
    if unknown := [label for label in labels if label not in index]:
        raise TaskError(
            f"The target {name} has the class {one_line(unknown[0], 60)!r}, which the run does not have."
        )
    return torch.from_numpy(np.array([index[label] for label in labels], np.int64)[target.classes])


@dataclass(frozen=True)
class EncodedRows:
    """The rows of a file, encoded by the agreement of a run."""

    inputs: Tensor
    """[rows, inputs] float32."""
    targets: Tensor | None
    """Classes [rows] int64 or standardised numbers [rows, 1] float32; None if they were not asked for."""


def encode_file(path: Path, agreement: Agreement, *, with_target: bool) -> EncodedRows:
    """Read the table in the file *path* and encode it for a model of *agreement*, on the CPU.

    Columns that the run does not have are ignored. *with_target*: rows without a value of the target are left
    out; otherwise the file need not have the target.

    Raises:
        TaskError: the file is no table, or does not fit the run.
    """
    table = read_table(path, _wanted(agreement, with_target=with_target))
    targets = None if table.target is None else targets_of(agreement, table.target)
    return EncodedRows(_inputs(agreement, table), targets)


def encode_rows(rows: Sequence[Mapping[str, object]], agreement: Agreement) -> Tensor:
    """Encode *rows*, each a mapping of column to value, as `encode_file` does with a file: [rows, inputs].

    None, NaN and a column that a row lacks are missing values.

    Raises:
        TaskError: there is no row, no row has a column of the run, or a value does not fit its column.
    """
    names = tuple(dict.fromkeys(str(name) for row in rows for name in row))
    cells = [[_text(row.get(name)) for row in rows] for name in names]
    text = TableText(names, "", iter((Piece(cells, range(1, len(rows) + 1)),) if rows else ()))
    return _inputs(agreement, table_of(text, "The table", _wanted(agreement, with_target=False)))


def _wanted(agreement: Agreement, *, with_target: bool) -> Wanted:
    assert agreement.target is not None
    kind: TargetKind = "class" if agreement.target.kind == "category" else "number"
    kinds = {column.name: column.kind for column in agreement.columns}
    return Wanted(agreement.target.name if with_target else None, kind, kinds)


def _inputs(agreement: Agreement, table: Table) -> Tensor:
    encoder = Encoder(agreement, table.features, torch.device("cpu"))
    return encoder(torch.from_numpy(table.cells))


def _text(value: object) -> str:
    """Return *value* as it would stand in a file."""
    return "" if value is None or value != value else str(value)  # only NaN differs from itself
