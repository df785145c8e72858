"""Tables in files, for tests of the learning package."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from p2pfl.learning.tables.rows import Table, Wanted, read_table
from p2pfl.spec import RunSpec, from_options


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV file and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_columns(folder: Path, target: str | None = None, /, **columns: Sequence[object]) -> Table:
    """Return the table with *columns* after it was written to a CSV file and read."""
    path = write_table(folder / "columns.csv", tuple(columns), zip(*columns.values(), strict=True))
    return read_table(path, Wanted(target))


def table_spec(**changes: Any) -> RunSpec:
    """Return the spec of a short run of tables with the target "target", with *changes*."""
    options: dict[str, Any] = {
        "target": "target",
        "model": "mlp",
        "rounds": 10,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "seed": 1,
        "sample": 0,
        "min_updates": 1,
        "round_cap": 60.0,
        "drop_after": 60.0,
    }
    return from_options(kind="table", **{**options, **changes})
