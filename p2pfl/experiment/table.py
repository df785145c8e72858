"""Tables of an experiment: the last and the best value of each setting, with deviations over its seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from p2pfl.cards import PERSONAL, metric_text
from p2pfl.experiment.results import FinishedRun
from p2pfl.learning.simulation.attack_specs import BACKDOOR


class GroupRow(msgspec.Struct, frozen=True):
    """The runs of one setting, which differ in their seeds."""

    settings: dict[str, str]
    primary: str
    runs: int
    last: tuple[float, ...]
    """Primary metric of the last model of each run."""
    best: tuple[float, ...]
    """Best primary metric of each run."""
    backdoor: tuple[float, ...]
    """Success rate of the backdoor with the last model of each run; empty for other attacks."""
    personal: tuple[float, ...]
    """Primary metric of the last models that were adapted to each client; empty if none were."""
    unchanged: int
    """Rounds of all runs in which the model stayed as it was."""
    seconds: float
    """Mean duration of a run."""


def group_rows(finished: Sequence[FinishedRun]) -> list[GroupRow]:
    """Return a row for each setting of the *finished* runs, in their order."""
    groups: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    for one in finished:
        groups.setdefault(one.planned.group, []).append(one)
    return [
        GroupRow(
            settings=dict(group),
            primary=runs[0].primary,
            runs=len(runs),
            last=tuple(run.last for run in runs if run.last is not None),
            best=tuple(run.best for run in runs if run.best is not None),
            backdoor=_last(runs, BACKDOOR),
            personal=_last(runs, f"{PERSONAL}{runs[0].primary}"),
            unchanged=sum(len(run.unchanged) for run in runs),
            seconds=statistics.fmean(run.seconds for run in runs),
        )
        for group, runs in groups.items()
    ]


def _last(runs: Sequence[FinishedRun], metric: str) -> tuple[float, ...]:
    """Return *metric* of the last model of each run that has it."""
    last = [run.rows[-1].metrics for run in runs if run.rows]
    return tuple(metrics[metric] for metrics in last if metric in metrics)


def spread_text(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation for people: "0.9583 ± 0.0042"; "-" without a value."""
    if not values:
        return "-"
    mean = metric_text(statistics.fmean(values))
    return f"{mean} ± {metric_text(statistics.stdev(values))}" if len(values) > 1 else mean


def table_text(rows: Sequence[GroupRow]) -> str:
    """Return *rows* as a table for a terminal, which is valid Markdown too."""
    if not rows:
        return "no run is finished yet\n"
    names = list(rows[0].settings)
    primary = rows[0].primary
    has_backdoor, has_personal = any(row.backdoor for row in rows), any(row.personal for row in rows)
    has_unchanged = any(row.unchanged for row in rows)
    heads = [
        *names,
        f"last {primary}",
        f"best {primary}",
        *([f"personal {primary}"] * has_personal),
        *(["backdoor"] * has_backdoor),
        *(["rounds without a new model"] * has_unchanged),
        "runs",
        "seconds",
    ]
    lines = [heads]
    lines += [
        [
            *row.settings.values(),
            spread_text(row.last),
            spread_text(row.best),
            *([spread_text(row.personal)] * has_personal),
            *([spread_text(row.backdoor)] * has_backdoor),
            *([str(row.unchanged)] * has_unchanged),
            str(row.runs),
            f"{row.seconds:.1f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]]) + "\n"


def table_csv(rows: Sequence[GroupRow]) -> str:
    """Return *rows* as CSV, with mean and deviation in columns of their own."""
    lines: list[dict[str, Any]] = []
    there = {name for row in rows for name, values in _measured(row) if values} | {"last", "best"}
    for row in rows:
        line: dict[str, Any] = dict(row.settings)
        for name, values in _measured(row):
            if name not in there:
                continue
            line[f"{name}_mean"] = f"{statistics.fmean(values):.6f}" if values else ""
            line[f"{name}_std"] = f"{statistics.stdev(values):.6f}" if len(values) > 1 else ""
        rest = {"metric": row.primary, "runs": row.runs, "unchanged": row.unchanged}
        lines.append({**line, **rest, "seconds": f"{row.seconds:.3f}"})
    return _csv(lines)


def _measured(row: GroupRow) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return ("last", row.last), ("best", row.best), ("personal", row.personal), ("backdoor", row.backdoor)


def rounds_csv(finished: Sequence[FinishedRun]) -> str:
    """Return all rounds of the *finished* runs as CSV, one line a round."""
    names = dict.fromkeys(name for run in finished for row in run.rows for name in row.metrics)
    lines = [
        {
            **run.planned.settings,
            "round": row.round,
            **{name: _number(row.metrics.get(name)) for name in names},
            "best": _number(row.best),
            "training_loss": _number(row.training_loss),
            "seconds": f"{row.seconds:.3f}",
            "updates": len(row.clients),
            "attacking": len(row.attackers),
            "left_out": len(row.left_out),
            "digest": row.digest,
            "note": row.note,
        }
        for run in finished
        for row in run.rows
    ]
    return _csv(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for line in lines for name in line))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()
