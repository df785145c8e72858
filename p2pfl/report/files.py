"""Reports as files, each form under its usual ending.

`p2pfl history` and the terminal UI write the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.report.plot import svg
from p2pfl.report.table import csv_text, jsonl_text

Form = Callable[[Iterable[RoundRow]], str]

FORMS: Final[Mapping[str, Form]] = {".csv": csv_text, ".jsonl": jsonl_text, ".svg": svg}
"""What makes the text of a report, by the ending of its file."""


def form_of(path: Path) -> Form:
    """Return what makes a report of the form that *path* ends in.

    Raises:
        UserError: it ends in none of those there are.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise UserError(f"{path} ends in none of .csv, .jsonl and .svg: the ending says what is written")
    return form


def write_report(path: Path, text: str) -> None:
    """Write a report to *path*; an earlier one there is replaced.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(
            f"the report {path} cannot be written: {error.strerror}; name another file"
        ) from error
