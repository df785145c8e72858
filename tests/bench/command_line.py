"""The command line of one bench: `python -m tests.bench.bench_pull [--quick] [--json FILE]`.

A bench is a module with a function `measure(settings)` that yields figures; its last lines call `run`. The
run of all benches (`tests.bench.__main__`) starts each bench with the same command line.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bytecode import use_bytecode
from tests.bench.machine import describe_commit, describe_machine
from tests.bench.report import Bench, Figure, Report, heading, line, write_json


@dataclass(frozen=True)
class Settings:
    """Settings of a bench run."""

    folder: Path
    """An empty folder on the disk of temporary files; deleted afterwards."""
    is_quick: bool
    """Fewer repetitions and no large models: at most half a minute for a bench."""


Measure = Callable[[Settings], Iterator[Figure]]


def run(name: str, measure: Measure) -> None:
    """Parse the command line and run bench *name*."""
    options = parser(measure.__doc__ or "").parse_args()
    report_on(name, measure, is_quick=options.quick, json=options.json)


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every bench; a bench may add its own."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--quick", action="store_true", help="fewer repetitions, smaller sizes")
    found.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    return found


def report_on(name: str, measure: Measure, *, is_quick: bool, json: Path | None) -> None:
    """Run *measure*, print each figure when it is known, and write all of them to *json* if given.

    After a failure, the figures so far are written too, and the exception is raised again.
    """
    use_bytecode()
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
