"""Measure how fast a private table is read, and how much memory that takes beyond the tensors that remain.

The table is a CSV file of random numbers, texts and gaps. What is measured is all that a worker does before it
trains: reading, describing, preparing and the first batch. `--megabytes 1000` is the size of the promise.
"""

from __future__ import annotations

import functools
import gc
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from p2pfl.agreement import merge_cards
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.choice import Choice, make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.tables.task import open_table
from p2pfl.spec import TableTask
from tests.bench.command_line import Settings, parser, report_on
from tests.bench.report import Figure

COLUMNS = 20
"""Numbers; besides them there are a text and the target."""

BATCH = 64


def measure(settings: Settings, megabytes: int = 300) -> Iterator[Figure]:
    """Yield speed and peak memory of reading a table."""
    size = 20 if settings.is_quick else megabytes
    path = settings.folder / "table.csv"
    rows = write(path, size * 1_000_000)
    gc.collect()
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    choice = Choice("table", "", DataPlaces(own=path))
    spec = make_spec(choice, {"target": "target"})
    assert isinstance(spec.task, TableTask)
    local = open_table(spec.task, spec.seed, choice.places)
    seconds = time.perf_counter() - began
    agreement, flaw = merge_cards(spec.task, {"ada": local.card})
    assert agreement is not None, flaw
    part = local.prepare(spec, agreement, torch.device("cpu")).train_part(0)
    assert isinstance(part, TensorBatches)
    next(part.ordered(BATCH))
    tensors = sum(
        4 * part.x.numel() if one is part.x else 8 * one.numel() for one in (part.x, part.y, part.rows)
    )
    peak = peak_bytes() - before
    yield Figure(
        f"reading a CSV file of {size} MB",
        size / seconds,
        "MB/s",
        note=f"{rows:,} rows, {COLUMNS + 2} columns",
    )
    yield Figure(
        f"peak memory of a table of {size} MB",
        peak / tensors,
        "tensors",
        budget=None if settings.is_quick else 1.5,
        note=f"{peak / 1e6:,.0f} MB for tensors of {tensors / 1e6:,.0f} MB",
    )


def write(path: Path, size: int) -> int:
    """Write a table of *size* bytes; return the number of its rows."""
    rng = random.Random(7)
    numbers = [f"{rng.gauss(100, 30):.6f}" for _ in range(50_000)] + [""] * 50
    rows, head = 0, ",".join(f"x{place}" for place in range(COLUMNS))
    with path.open("w", encoding="utf-8") as file:
        written = file.write(f"{head},city,target\n")
        while written < size:
            cells = rng.choices(numbers, k=COLUMNS)
            cells += [rng.choice(("Bern", "Rome", "Oslo")), rng.choice(("yes", "no"))]
            written += file.write(",".join(cells) + "\n")
            rows += 1
    return rows


def peak_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    options = parser(measure.__doc__ or "")
    options.add_argument("--megabytes", type=int, default=300, help="size of the file")
    given = options.parse_args()
    measured = functools.partial(measure, megabytes=given.megabytes)
    report_on("table", measured, is_quick=given.quick, json=given.json)
