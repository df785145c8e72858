"""Figures of benches, and their output as lines, Markdown tables and JSON.

Nothing here measures. A figure may have a budget. Whether it is met is reported and never asserted, since a
busy machine is no defect. Figures of several programs with the same `what` are shown side by side; the
constants below are the names that they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

OVERHEAD = "round overhead, {model}"
"""Median seconds of a round without its members' own work; *model* is one of `tests.bench.synthetic`."""

TRAFFIC = "bytes of a round, {model}, {nodes} nodes"
"""In units of 2(N-1) models, the least possible: every update to the aggregator, and the result back."""

PEAK = "aggregator's peak memory, {model}, {nodes} nodes"
"""In models: peak memory of all aggregating processes, minus their memory without a model."""

FIRST_ROUND = "process start to first round"
"""Seconds from the start of the first process to the first member's own work; no member imports torch."""

FIRST_ROUND_TORCH = "process start to first round, with torch"
"""The same where every member imports torch."""

IDLE = "memory of an idle node"
"""Resident MB of all processes of a node."""

MODEL_NAMES = {"0.4m": "0.4 M parameters", "11m": "11 M parameters", "100m": "100 M parameters"}
"""Names in figures of the models of `tests.bench.synthetic`."""


class Figure(msgspec.Struct, frozen=True):
    """One measured number."""

    what: str
    value: float
    unit: str = ""
    """Empty for a ratio."""
    budget: float | None = None
    """Limit for *value*; None: there is none."""
    comparison: Literal["<=", ">="] = "<="
    """The relation of *value* to *budget* that meets it."""
    note: str = ""
    """A few words on how it was measured."""

    @property
    def verdict(self) -> Literal["within", "missed", ""]:
        """Whether the budget is met; empty without a budget."""
        if self.budget is None:
            return ""
        holds = self.value <= self.budget if self.comparison == "<=" else self.value >= self.budget
        return "within" if holds else "missed"


class Bench(msgspec.Struct, frozen=True):
    """The result of one bench, complete or not."""

    name: str
    seconds: float
    figures: tuple[Figure, ...]
    fault: str = ""
    """Why it did not complete; empty if it did."""


class Machine(msgspec.Struct, frozen=True):
    """The machine of a bench run."""

    cpu: str
    cores: int
    memory_gb: float
    disk: str
    """File system, and time of one `fsync` of 4 KiB."""
    system: str
    python: str
    torch: str
    openssl: str
    load: float
    """Load average of the minute before: 0 on an idle machine."""


class Commit(msgspec.Struct, frozen=True):
    """The code of a bench run."""

    id: str
    is_dirty: bool
    """Whether files differ from the commit."""


class Report(msgspec.Struct, frozen=True):
    """The results of one or several benches."""

    machine: Machine
    commit: Commit
    is_quick: bool
    """Fewer repetitions and smaller sizes: shows that everything works, not for comparisons."""
    seconds: float
    benches: tuple[Bench, ...]


def write_json(path: Path, report: Report) -> None:
    """Write *report* to *path* as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def read_json(path: Path) -> Report:
    """Return the report in *path*.

    Raises:
        msgspec.DecodeError: the file holds no report.
        OSError: the file cannot be read.
    """
    return msgspec.json.decode(path.read_bytes(), type=Report)


# --- for a terminal -----------------------------------------------------------------------------------------


def line(figure: Figure) -> str:
    """Return *figure* as a table line, with the same columns in every bench."""
    measured = f"{shown(figure.value):>9} {figure.unit:<9}"
    return f"{figure.what:<66} {measured} {allowed(figure):<7} {figure.verdict:<7} {figure.note}".rstrip()


def heading(report: Report) -> str:
    """Return a line with machine and commit."""
    machine = report.machine
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB; {machine.disk}; {machine.system}; "
        f"Python {machine.python}, torch {machine.torch}, {machine.openssl}; load {machine.load:.1f}; "
        f"commit {report.commit.id}{' with changes' if report.commit.is_dirty else ''}"
        f"{'; --quick' if report.is_quick else ''}"
    )


def shown(value: float) -> str:
    """Return *value* with its significant digits."""
    size = abs(value)
    digits = 0 if size >= 100 or not size else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f}"


def allowed(figure: Figure) -> str:
    """Return the budget of *figure* with its relation; empty without a budget."""
    if figure.budget is None:
        return ""
    return f"{'≤' if figure.comparison == '<=' else '≥'} {figure.budget:g}"


# --- for a page ---------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """Return *report* as Markdown: machine, all figures, and the comparison with other programs."""
    parts = [f"Measured on {heading(report)}. All together took {report.seconds / 60:.1f} minutes."]
    rows = [_cells(bench, figure) for bench in report.benches for figure in bench.figures]
    parts.append(_table(["bench", "what", "measured", "budget", "", "note"], rows))
    if beside := _side_by_side(report.benches):
        parts.append("The same with other programs, in the same run:\n\n" + beside)
    parts += [f"`{bench.name}` did not complete: {bench.fault}" for bench in report.benches if bench.fault]
    return "\n\n".join(parts) + "\n"


def _cells(bench: Bench, figure: Figure) -> list[str]:
    verdict = f"**{figure.verdict}**" if figure.verdict == "missed" else figure.verdict
    measured = f"{shown(figure.value)} {figure.unit}".rstrip()
    return [bench.name, figure.what, measured, allowed(figure), verdict, figure.note]


def _side_by_side(benches: Sequence[Bench]) -> str:
    """Return a table of figures of more than one bench, one column for each; empty if there are none."""
    found: dict[str, dict[str, str]] = {}
    for bench in benches:
        for figure in bench.figures:
            found.setdefault(figure.what, {})[bench.name] = f"{shown(figure.value)} {figure.unit}".rstrip()
    shared = {what: values for what, values in found.items() if len(values) > 1}
    names = [bench.name for bench in benches if any(bench.name in values for values in shared.values())]
    ours = [name for name in names if "." not in name]
    others = [name for name in names if "." in name]
    rows = [
        [what, next((values[name] for name in ours if name in values), "")]
        + [values.get(name, "") for name in others]
        for what, values in shared.items()
    ]
    return (
        _table(["what", "p2pfl, this one", *(name.partition(".")[2] for name in others)], rows)
        if rows
        else ""
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
