"""Run all benches one after another: `python -m tests.bench`; see README.md in this folder.

Each bench runs in its own process and process group, so its memory use or failure does not affect the next
one. The exit code only says whether every bench completed; budgets do not affect it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.bench.machine import describe_commit, describe_machine
from tests.bench.report import Bench, Report, markdown, read_json, write_json
from tests.support.source import ROOT

BENCHES = (
    "start",
    "first_round",
    "screen",
    "pull",
    "training",
    "strategies",
    "script",
    "pictures",
    "table",
    "round",
    "observers",
    "scale",
    "faults",
)
"""In the order of execution: benches that are most sensitive to other load come first."""

PEERS = ("flower", "flower_legacy", "first_round", "p2pfl_pypi", "clients")
"""Modules of `tests.bench.peers`."""

LIMIT_SECONDS = 600.0
"""Time limit of one bench. Each takes one to two minutes on an idle machine."""

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def main() -> int:
    """Run the benches that the command line selects; return 1 if one failed."""
    parser = _parser()
    options = parser.parse_args()
    if options.write_readme and (options.only or options.quick):
        parser.error("--write-readme is for a run of all benches at full size")
    began = time.monotonic()
    report = Report(describe_machine(), describe_commit(), options.quick, 0.0, ())
    benches = []
    for name, command in _commands(options).items():
        print(f"\n== {name}", flush=True)
        benches.append(_run(name, command))
        report = msgspec.structs.replace(report, benches=tuple(benches), seconds=time.monotonic() - began)
        if options.json is not None:
            write_json(options.json, report)
    text = markdown(report)
    print(f"\n{text}")
    if options.write_readme:
        put_between_markers(README, text)
    return int(any(bench.fault for bench in benches))


def put_between_markers(page: Path, text: str) -> None:
    """Replace the lines between the markers in *page* with *text*."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page.name} lacks the lines that enclose the figures: {BEGIN}{END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Run the benches, all or some."
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="one bench; may be given several times"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    parser.add_argument("--write-readme", action="store_true", help="put the table into README.md here")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="also run other programs, installed in DIR")
    return parser


def _commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command of each selected bench, by name."""
    quick = ["--quick"] if options.quick else []
    found = {name: ["-m", f"tests.bench.bench_{name}", *quick] for name in BENCHES}
    if options.peers is not None:
        venv = f"--venv={options.peers.absolute()}"
        found |= {f"peers.{name}": ["-m", f"tests.bench.peers.{name}", venv, *quick] for name in PEERS}
    if unknown := set(options.only or ()) - set(found):
        sys.exit(f"There is no bench {', '.join(sorted(unknown))}; there are: {', '.join(found)}.")
    return {name: command for name, command in found.items() if not options.only or name in options.only}


def _run(name: str, command: list[str]) -> Bench:
    """Run one bench in its own process; return its figures, or why there are none."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "report.json"
        process = subprocess.Popen(
            [sys.executable, *command, f"--json={path}"], cwd=ROOT, start_new_session=True
        )
        fault = ""
        try:
            code = process.wait(LIMIT_SECONDS)
            fault = f"it ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            fault = f"it took longer than {LIMIT_SECONDS:g} s and was ended"
        finally:
            with contextlib.suppress(ProcessLookupError):  # no process of the group is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        try:
            [bench] = read_json(path).benches
        except (OSError, msgspec.DecodeError):
            return Bench(name, time.monotonic() - began, (), fault or "it wrote no report")
        return Bench(name, bench.seconds, bench.figures, bench.fault or fault)


if __name__ == "__main__":
    sys.exit(main())
