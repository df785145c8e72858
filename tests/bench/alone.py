"""The command line of one bench: `python -m tests.bench.bench_pull [--quick] [--json FILE]`.

A bench is a module with a function `measure(settings)` that yields figures; its last lines call `run`. The
run of all benches starts each by this same command line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machine import describe_commit, describe_machine
from tests.bench.report import Bench, Figure, Report, heading, line, write_json


@dataclass(frozen=True)
class Settings:
    """What every bench is told."""

    folder: Path
    """Empty, on the disk temporary files go to; removed afterwards."""
    is_quick: bool
    """Take fewer repetitions and leave large sizes out: half a minute a bench at most."""


Measure = Callable[[Settings], Iterator[Figure]]


def run(name: str, measure: Measure) -> None:
    """Be the program of bench *name*."""
    options = parser(measure.__doc__ or "").parse_args()
    report_on(name, measure, is_quick=options.quick, json=options.json)


def parser(description: str) -> argparse.ArgumentParser:
    """Return the options every bench has; one may add its own."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--quick", action="store_true", help="fewer repetitions, smaller sizes")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    return found


def report_on(name: str, measure: Measure, *, is_quick: bool, json: Path | None) -> None:
    """Run *measure*, print its figures as they come, and write them to *json* if given.

    What was found before a failure is written too; the failure goes on to the caller.
    """
    machine, commit = describe_machine(), describe_commit()
    began = time.monotonic()
    figures: list[Figure] = []

    def report(fault: str = "") -> Report:
        seconds = time.monotonic() - began
        return Report(machine, commit, is_quick, seconds, (Bench(name, seconds, tuple(figures), fault),))

    print(heading(report()), flush=True)
    fault = "it was interrupted"
    try:
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            for figure in measure(Settings(Path(folder), is_quick)):
                figures.append(figure)
                print(line(figure), flush=True)
        fault = ""
    except Exception as error:
        fault = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise
    finally:
        if json is not None:
            write_json(json, report(fault))
