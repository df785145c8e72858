"""Writes measured values to a CSV file: one line a value, so that any number of metrics and nodes fit."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.text import one_line
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun

COLUMNS = ("time", "run", "round", "node", "name", "value")
"""`node` is empty for values of the whole federation."""

HEADER = ",".join(COLUMNS)


class CsvTracker:
    """Appends to a file, which may have the values of earlier starts."""

    def __init__(self, path: Path) -> None:
        """Check that *path* can be written, and begin the file if it is new.

        Raises:
            UserError: it cannot, or it is another file.
        """
        self._path = path
        self._run = ""
        try:
            with path.open("a+", encoding="utf-8", newline="") as file:
                file.seek(0)
                first = file.readline(len(HEADER) + 2).rstrip("\r\n")
                if not first:
                    file.write(HEADER + "\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UserError(
                f"The file {path} of --track cannot be written: {why}. Name another one."
            ) from error
        if first not in ("", HEADER):
            raise UserError(
                f"The file {path} of --track has other columns than {HEADER}: name a new file, so that "
                "nothing of it is lost."
            )

    def begin(self, run: TrackedRun, /) -> None:
        """Write the id of *run* in each line from now on."""
        self._run = run.id

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        """Append one line for each of *values*."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
        for one in values:
            name = one_line(one.name)
            writer.writerow((moment, self._run, one.round, one_line(one.node), name, f"{one.value:.9g}"))
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""
