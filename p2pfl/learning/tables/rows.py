"""Reads a whole table: its rows as one float32 matrix, a description of each column, and the target.

The matrix is the only copy of the data. While the file is read it grows by blocks, and joining them frees
each block once it is copied, so the peak is a few pieces above the size of the matrix.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import TaskError
from p2pfl.learning.tables.columns import ColumnReader, Kind
from p2pfl.learning.tables.file import open_text
from p2pfl.learning.tables.kinds import MIN_ROWS, Feature, TargetColumn, TargetKind, feature_of, target_of
from p2pfl.learning.tables.row_keys import Keys, add_column
from p2pfl.learning.tables.text import Piece, TableText
from p2pfl.text import one_line

BLOCK_BYTES = 32 * 2**20
"""Size of a block of the matrix: from this size on, freed memory goes back to the system at once."""

DUPLICATE_HASHES = 2**22
"""Hashes of rows that are sorted at a time to count duplicates: 32 MB."""


@dataclass(frozen=True)
class Table:
    """A table in memory."""

    cells: NDArray[np.float32]
    """[rows, features], stored as `Feature` says."""
    features: tuple[Feature, ...]
    target: TargetColumn | None
    notes: tuple[str, ...]
    """What is unusual about the table."""
    keys: Keys
    """[rows]: hashes of the content of each row, target included (`p2pfl.learning.tables.row_keys`)."""


@dataclass(frozen=True)
class Wanted:
    """What is read of a table."""

    target: str | None
    """The column to predict; rows without a value of it are left out. None: all columns are features."""
    target_kind: TargetKind = "auto"
    kinds: Mapping[str, Kind] | None = None
    """The features and their kinds where a run has decided them: other columns are not read. None: all
    columns, and each kind follows from the values."""


def read_table(path: Path, wanted: Wanted) -> Table:
    """Read the table in the file *path*.

    Raises:
        TaskError: the file is no table, lacks a column that is wanted, or has one that cannot be used.
    """
    with open_text(path) as text:
        return table_of(text, path.name, wanted)


def table_of(text: TableText, name: str, wanted: Wanted) -> Table:
    """Read the table *text*, which is called *name* in messages; raises as `read_table`."""
    features, target = _readers(text, name, wanted)
    matrix, targets, keys = _Matrix(len(features)), [], []
    places = {column: place for place, column in enumerate(text.names)}
    for piece in text.pieces:
        lines: Sequence[int] = piece.lines
        rows = np.zeros(len(lines), np.uint64)
        columns = [piece.cells[places[column.name]] for column in features]
        if target is not None:
            found, keep = _with_target(target, piece, places[target.name])
            targets.append(found)
            add_column(rows, target.name, target.keys())
            if not all(keep):
                rows = rows[keep]
                lines = list(compress(lines, keep))
                columns = [list(compress(column, keep)) for column in columns]
        read = zip(features, columns, strict=True)
        matrix.append([reader.take(cells, lines) for reader, cells in read], len(lines))
        for reader in features:
            add_column(rows, reader.name, reader.keys())
        keys.append(rows)
        for place, reader in enumerate(features):
            if reader.is_due:
                matrix.replace(place, reader.begin_measuring())
        if target is not None and target.is_due:
            lookup = target.begin_measuring()
            targets = [lookup[found.astype(np.int64)] for found in targets]
    if not matrix.rows:
        what = (
            "row"
            if target is None or not target.missing
            else f"row with a value of the target {target.label}"
        )
        raise TaskError(f"{name} has no {what}.")
    return _finish(matrix, features, target, targets, np.concatenate(keys), wanted)


def _with_target(target: ColumnReader, piece: Piece, place: int) -> tuple[NDArray[np.float32], list[bool]]:
    """Return the targets of the rows of *piece* that have one, and which rows these are."""
    found = target.take(piece.cells[place], piece.lines)
    keep = found >= 0 if target.is_coded else ~np.isnan(found)
    return found[keep], keep.tolist()


def _readers(text: TableText, name: str, wanted: Wanted) -> tuple[list[ColumnReader], ColumnReader | None]:
    target = None
    if wanted.target is not None:
        _require(wanted.target, "target", text, name)
        kind: Kind | None = "number" if wanted.target_kind == "number" else None
        target = ColumnReader(wanted.target, text.separator, kind)
    if wanted.kinds is not None:
        for column in wanted.kinds:
            _require(column, "column", text, name)
        kinds: Mapping[str, Kind | None] = wanted.kinds
    else:
        kinds = {column: None for column in text.names if column != wanted.target}
    if not kinds:
        raise TaskError(
            f"{name} has the target column only, and no column to predict it from: separate the columns by a "
            "comma, a semicolon or a tab."
        )
    return [ColumnReader(column, text.separator, kind) for column, kind in kinds.items()], target


def _require(column: str, role: str, text: TableText, name: str) -> None:
    """Raise TaskError if there is no *column*."""
    if column in text.names:
        return
    if any(_is_number(other) for other in text.names):
        cell = next(other for other in text.names if _is_number(other))
        raise TaskError(
            f"Line 1 of {name} has the number {one_line(cell, 30)!r} and no column {one_line(column, 40)!r}: "
            "the first line has to hold the names of the columns."
        )
    by_case = [other for other in text.names if other.lower() == column.lower()]
    close = by_case or difflib.get_close_matches(column, text.names, 1)
    listed = ", ".join(one_line(other, 30) for other in text.names[:8])
    more = f" and {len(text.names) - 8} more" if len(text.names) > 8 else ""
    hint = f"; is {one_line(close[0], 60)!r} meant?" if close else "."
    raise TaskError(f"{name} has no {role} {one_line(column, 60)!r}; its columns are {listed}{more}{hint}")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _finish(
    matrix: _Matrix,
    readers: Sequence[ColumnReader],
    target: ColumnReader | None,
    targets: list[NDArray[np.float32]],
    keys: Keys,
    wanted: Wanted,
) -> Table:
    notes: list[str] = []
    if target is not None and target.missing:
        rows = matrix.rows + target.missing
        notes.append(f"{target.missing} of {rows} rows have no value of the target and are left out")
    found, stored = None, np.concatenate(targets) if targets else None
    targets.clear()
    if target is not None and stored is not None:
        found = target_of(target, stored, wanted.target_kind, notes)
    features = []
    for place, reader in enumerate(readers):
        is_category = wanted.kinds is not None and wanted.kinds[reader.name] == "category"
        feature, lookup = feature_of(reader, notes, is_category=is_category)
        if lookup is not None:
            matrix.replace(place, lookup)
        features.append(feature)
    cells = matrix.join()
    if wanted.kinds is None:
        notes += _counters(cells, features)
        same = _duplicates(keys)
        if same:
            notes.append(f"{same} of {len(cells)} rows are equal to another one before them")
    return Table(cells, tuple(features), found, tuple(notes), keys)


def _counters(cells: NDArray[np.float32], features: Sequence[Feature]) -> list[str]:
    """Name the columns that number the rows."""
    notes = []
    for place, feature in enumerate(features):
        column = cells[:, place]
        if (
            feature.card.kind == "number"
            and len(column) >= MIN_ROWS
            and (np.diff(column[:MIN_ROWS]) == 1).all()
            and (np.diff(column) == 1).all()
        ):
            notes.append(f"the column {one_line(feature.card.name, 60)!r} numbers the rows: leave it out")
    return notes


def _duplicates(keys: Keys) -> int:
    """Return the number of rows that are equal to one before them, as their *keys* tell."""
    parts, same = -(-len(keys) // DUPLICATE_HASHES), 0
    for part in range(parts):
        ordered = np.sort(keys if parts == 1 else keys[keys % np.uint64(parts) == part])
        same += int((ordered[1:] == ordered[:-1]).sum())
    return same


class _Matrix:
    """Float32 rows whose final number is unknown."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self._columns = columns
        self._block_rows = max(1, BLOCK_BYTES // (4 * columns))
        self._blocks: list[NDArray[np.float32]] = []

    def append(self, columns: Sequence[NDArray[np.float32]], rows: int) -> None:
        """Append *rows* rows, given column by column."""
        done = 0
        while done < rows:
            used = self.rows % self._block_rows
            if not used:
                self._blocks.append(np.empty((self._block_rows, self._columns), np.float32))
            count = min(rows - done, self._block_rows - used)
            for place, column in enumerate(columns):
                self._blocks[-1][used : used + count, place] = column[done : done + count]
            done += count
            self.rows += count

    def replace(self, column: int, lookup: NDArray[np.float32]) -> None:
        """Replace the codes in *column* by their entries in *lookup*; -1 by the last one."""
        for number, block in enumerate(self._blocks):
            used = min(self._block_rows, self.rows - number * self._block_rows)
            block[:used, column] = lookup[block[:used, column].astype(np.int64)]

    def join(self) -> NDArray[np.float32]:
        """Return the rows as one array. The matrix is empty afterwards."""
        if len(self._blocks) == 1:
            return self._blocks.pop()[: self.rows]
        joined, start = np.empty((self.rows, self._columns), np.float32), 0
        self._blocks.reverse()
        while self._blocks:
            block = self._blocks.pop()[: self.rows - start]
            joined[start : start + len(block)] = block
            start += len(block)
        return joined
