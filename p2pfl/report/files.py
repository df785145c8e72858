"""Writes reports to files; the file's ending selects the format.

`p2pfl history` and the terminal UI write the same formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.report.plot import svg
from p2pfl.report.table import csv_text, jsonl_text


def report_text(path: Path, rows: Iterable[RoundRow], alone: Sequence[float] = ()) -> str:
    """Return the report on *rows* in the format of the ending of *path*; for *alone* see `plot.svg`.

    Raises:
        UserError: the ending is unknown.
    """
    match path.suffix.lower():
        case ".csv":
            return csv_text(rows)
        case ".jsonl":
            return jsonl_text(rows)
        case ".svg":
            return svg(rows, alone)
        case _:
            raise UserError(f"{path} ends in none of .csv, .jsonl and .svg: the ending selects the format")


def write_report(path: Path, text: str) -> None:
    """Write a report to *path*, replacing an existing file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(
            f"the report {path} cannot be written: {error.strerror}; name another file"
        ) from error
