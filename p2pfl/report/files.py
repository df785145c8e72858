"""Writes reports to files; the file's ending selects the format.

`p2pfl history` and the terminal UI write the same formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.report.figures import history_png
from p2pfl.report.plot import svg
from p2pfl.report.table import csv_text, jsonl_text


def report_content(path: Path, rows: Iterable[RoundRow], alone: Sequence[float] = ()) -> str | bytes:
    """Return the report on *rows* in the format of the ending of *path*; for *alone* see `plot.svg`.

    Raises:
        UserError: the ending is unknown, or drawing a PNG file needs a package that is not installed.
    """
    match path.suffix.lower():
        case ".csv":
            return csv_text(rows)
        case ".jsonl":
            return jsonl_text(rows)
        case ".svg":
            return svg(rows, alone)
        case ".png":
            return history_png(rows, alone)
        case _:
            raise UserError(
                f"{path} ends in none of .csv, .jsonl, .svg and .png: the ending selects the format"
            )


def write_report(path: Path, content: str | bytes) -> None:
    """Write a report to *path*, replacing an existing file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise UserError(
            f"the report {path} cannot be written: {error.strerror}; name another file"
        ) from error
