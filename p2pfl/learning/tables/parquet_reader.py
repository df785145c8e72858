"""Reads a Parquet file as columns of text, where pyarrow is installed.

It is separate from `p2pfl.learning.tables.csv_reader` because pyarrow is an extra. The cells become text, so
a table is the same run whether a device keeps it as CSV or as Parquet.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from p2pfl.errors import TaskError
from p2pfl.learning.tables.text import PIECE_CELLS, Piece, Progress, TableText, checked_names
from p2pfl.text import one_line


def read_parquet(file: BinaryIO, name: str) -> TableText:
    """Open the Parquet *file* called *name*.

    Raises:
        TaskError: pyarrow is not installed, or the file is damaged; also while its pieces are read.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise TaskError(
            f"{name} is a Parquet file, which needs pyarrow: pip install 'p2pfl-lan[parquet]', or save "
            "it as CSV."
        ) from error
    try:
        table = parquet.ParquetFile(file)
    except arrow.ArrowInvalid as error:
        raise TaskError(f"{name} is no Parquet file, or it is damaged: {_reason(error)}.") from error
    names = checked_names(table.schema_arrow.names, name, "its schema")
    rows = max(1, PIECE_CELLS // len(names))
    return TableText(names, "", _pieces(arrow, table, rows, name))


def _pieces(arrow: Any, table: Any, rows: int, name: str) -> Iterator[Piece]:
    progress, done = Progress(name, table.metadata.num_rows, lambda: done), 0
    try:
        for batch in table.iter_batches(batch_size=rows):
            cells = [_text(arrow, column) for column in batch.columns]
            yield Piece(cells, range(done + 1, done + batch.num_rows + 1))
            done += batch.num_rows
            progress.tell(done)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
        raise TaskError(
            f"{name} cannot be read after row {done}: {_reason(error)}; columns have to hold numbers or text."
        ) from error


def _text(arrow: Any, column: Any) -> list[str]:
    """Return the cells of *column* as Python and pandas write them into a CSV file."""
    cells: list[str] = column.cast(arrow.string()).fill_null("").to_pylist()
    return [cell.capitalize() for cell in cells] if str(column.type) == "bool" else cells


def _reason(error: Exception) -> str:
    return one_line(str(error)).rstrip(".")
