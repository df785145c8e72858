"""Renders rounds as tables for other programs: CSV for spreadsheets, JSON lines for scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from p2pfl.events import CountedUpdate, MemberScore, RoundRow
from p2pfl.text import one_line

FIRST_COLUMNS = ("round", "attempt", "aggregator", "updates", "left_out")
MIDDLE_COLUMNS = (
    "samples",
    "worst_member",
    "best_member",
    "seconds",
    "slowest_training",
    "model",
    "committed",
)
"""Columns of the CSV table. Between them are the primary metric and, if it is measured, the loss; after them
come the other metrics, and the primary metric of each member."""


def csv_text(rows: Iterable[RoundRow]) -> str:
    """Return the training rounds among *rows* as CSV with a header (RFC 4180)."""
    trained = [row for row in rows if row.kind == "train"]
    shown = shown_metrics(trained)
    others = sorted({name for row in trained for name in row.metrics} - set(shown))
    members = sorted({score.name for row in trained for score in row.scores})
    file = io.StringIO()
    writer = csv.writer(file)
    own = [f"{shown[0]} of {one_line(name)}" for name in members]
    writer.writerow([*FIRST_COLUMNS, *shown, *MIDDLE_COLUMNS, *others, *own])
    for row in trained:
        scores = {score.name: score.mean(shown[0]) for score in row.scores}
        values = [
            *_first_values(row),
            *(_number(row.metrics.get(name)) for name in shown),
            *_middle_values(row),
            *(_number(row.metrics.get(name)) for name in others),
            *(_number(scores.get(name)) for name in members),
        ]
        writer.writerow(values)
    return file.getvalue()


def shown_metrics(rows: Sequence[RoundRow]) -> list[str]:
    """Return the metrics that tables of *rows* show: the primary one, and the loss where it exists."""
    primary = rows[-1].primary if rows else "accuracy"
    measured = [row.metrics for row in rows if row.metrics]
    has_loss = any("loss" in metrics for metrics in measured) or not measured
    return [primary, "loss"] if has_loss and primary != "loss" else [primary]


def jsonl_text(rows: Iterable[RoundRow]) -> str:
    """Return the training rounds among *rows* with all their fields, one JSON object per line."""
    return "".join(json_line(row) + "\n" for row in rows if row.kind == "train")


def json_line(row: RoundRow) -> str:
    """Return *row* as one line of ASCII, so that a name cannot control a terminal.

    The field names are kept for the scripts that read them: `samples` is the number of examples.

    `strategy` has its options that have not their default with it. `round` counts training rounds, `index` is
    the number of the record in the chain. `metrics` has the value of every metric, `primary` names the one
    that models are compared by; `accuracy` and `loss` are null if the task does not measure them. `classes`
    has the counts of each class by its name. If `committed` is false the metrics may still change. `seconds`,
    to the millisecond, is null if the node learned of the round only afterwards.
    """
    fields = {
        "run": row.run,
        "round": row.training_round,
        "index": row.round,
        "attempt": row.attempt,
        "strategy": row.strategy,
        "aggregator": row.aggregator,
        "digest": row.digest,
        "parent": row.parent,
        "record": row.record,
        "members": row.members,
        "updates": [_update(update) for update in row.updates],
        "left_out": [{"name": name, "reason": reason} for name, reason in row.left_out],
        "accuracy": row.accuracy,
        "loss": row.loss,
        "samples": row.examples,
        "metrics": row.metrics,
        "primary": row.primary,
        "direction": row.direction,
        "classes": {
            one.label: {"right": one.right, "examples": one.examples, "predicted": one.predicted}
            for one in row.classes
        },
        "scores": [_score(score) for score in row.scores],
        "committed": row.committed and bool(row.metrics),
        "seconds": round(row.seconds, 3) or None,
        "then": row.then,
        "note": row.note,
    }
    return json.dumps(fields, allow_nan=False)


def _update(update: CountedUpdate) -> dict[str, object]:
    return {
        "name": update.name,
        "samples": update.examples,
        "steps": update.steps,
        "planned_steps": update.planned or update.steps,
        "loss": update.loss,
        "seconds": round(update.seconds, 3),
    }


def _score(score: MemberScore) -> dict[str, object]:
    """Return what a member evaluated; `correct` and `loss` are the sums of a classification, else null."""
    correct = score.sums.get("accuracy")
    return {
        "name": score.name,
        "correct": int(correct) if correct is not None else None,
        "total": score.examples,
        "loss": score.sums.get("loss"),
        "sums": score.sums,
        "metrics": score.metrics,
    }


def _first_values(row: RoundRow) -> tuple[object, ...]:
    aggregator = _escaped(row.aggregator)
    return row.training_round, row.attempt, aggregator, len(row.updates), len(row.left_out)


def _middle_values(row: RoundRow) -> tuple[object, ...]:
    values = [value for score in row.scores if (value := score.mean(row.primary)) is not None]
    worst, best = (min, max) if row.direction == "max" else (max, min)
    return (
        row.examples,
        _number(worst(values) if values else None),
        _number(best(values) if values else None),
        f"{row.seconds:.3f}" if row.seconds else "",
        f"{max(update.seconds for update in row.updates):.3f}" if row.updates else "",
        row.digest,
        "" if not row.metrics else "yes" if row.committed else "no",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _escaped(text: str) -> str:
    """Return *text* as one printable line that no spreadsheet reads as a formula."""
    flat = one_line(text)
    return f"'{flat}" if flat[:1] in ("=", "+", "-", "@") else flat
