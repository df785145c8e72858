"""A table as pieces of text: what the readers of CSV and of Parquet give, and nothing about its meaning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from p2pfl.cards import MAX_COLUMNS
from p2pfl.errors import TaskError
from p2pfl.spec import MAX_COLUMN_NAME
from p2pfl.text import one_line

logger = logging.getLogger(__name__)

PIECE_CELLS = 100_000
"""Cells in a piece: their text takes about 10 MB, so that of a large file is never in memory as a whole."""

PROGRESS_SECONDS = 5.0
"""Interval of the progress lines of a large file."""


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of a table."""

    cells: Sequence[Sequence[str]]
    """The text of the cells, column by column; all columns have the same length."""
    lines: Sequence[int]
    """The line of the file in which each row ends, from 1; of a Parquet file the number of the row."""


@dataclass(frozen=True)
class TableText:
    """An open table."""

    names: tuple[str, ...]
    """The names of its columns; they differ."""
    separator: str
    """The separator of a CSV file; empty for Parquet."""
    pieces: Iterator[Piece]
    """Reads on; raises TaskError."""


def checked_names(header: Sequence[str], name: str, where: str) -> tuple[str, ...]:
    """Return the names of the columns in *header*, which is *where* in the file *name*.

    Raises:
        TaskError: a name is missing, too long, or given twice.
    """
    names = tuple(cell.strip() for cell in header)
    if not any(names):
        raise TaskError(f"{name} has no names of columns in {where}.")
    for number, column in enumerate(names, 1):
        if not column:
            raise TaskError(
                f"Column {number} of {name} has no name in {where}: name it, or leave it out (in pandas: "
                "to_csv(.., index=False))."
            )
        if len(column) > MAX_COLUMN_NAME:
            raise TaskError(
                f"The name of column {number} of {name} has {len(column)} characters in {where}, and "
                f"{MAX_COLUMN_NAME} are possible: does {where} hold the names of the columns?"
            )
        if column in names[: number - 1]:
            raise TaskError(
                f"{name} has two columns {one_line(column)!r} in {where}: give each column a name of its own."
            )
    if len(names) > MAX_COLUMNS + 1:
        raise TaskError(f"{name} has {len(names)} columns, and {MAX_COLUMNS + 1} are possible.")
    return names


class Progress:
    """Logs how much of a file is read, every few seconds."""

    def __init__(self, name: str, size: int, position: Callable[[], int]) -> None:
        """*position* returns how much of the *size* of the file *name* is read, in the same unit."""
        self._name = name
        self._size = size
        self._position = position
        self._told = time.monotonic()

    def tell(self, rows: int) -> None:
        """Log a line if it is time; *rows* are read."""
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            share = 100 * self._position() / max(1, self._size)
            logger.info("reading %s: %.0f %%, %s rows", self._name, share, f"{rows:,}")
