"""Renders rounds as tables for other programs: CSV for spreadsheets, JSON lines for scripts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from p2pfl.events import CountedUpdate, MemberScore, RoundRow
from p2pfl.text import one_line

COLUMNS = (
    "round", "attempt", "aggregator", "updates", "left_out", "accuracy", "loss", "samples",
    "worst_member", "best_member", "seconds", "slowest_training", "model", "committed",
)  # fmt: skip
"""Columns of the CSV table."""


def csv_text(rows: Iterable[RoundRow]) -> str:
    """Return the training rounds among *rows* as CSV with a header (RFC 4180)."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        if row.kind == "train":
            writer.writerow([_escaped(value) for value in _values(row)])
    return file.getvalue()


def jsonl_text(rows: Iterable[RoundRow]) -> str:
    """Return the training rounds among *rows* with all their fields, one JSON object per line."""
    return "".join(json_line(row) + "\n" for row in rows if row.kind == "train")


def json_line(row: RoundRow) -> str:
    """Return *row* as one line of ASCII, so that a name cannot control a terminal.

    The field names are kept for the scripts that read them: `samples` is the number of examples.
    `round` counts training rounds, `index` is the number of the record in the chain. `metrics` has the mean
    of every metric; `accuracy` and `loss` are null if the task does not measure them. If `committed` is false
    the metrics may still change. `seconds`, to the millisecond, is null if the node learned of the round only
    afterwards.
    """
    fields = {
        "run": row.run,
        "round": row.training_round,
        "index": row.round,
        "attempt": row.attempt,
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
    }


def _values(row: RoundRow) -> tuple[object, ...]:
    accuracies = [value for score in row.scores if (value := score.mean("accuracy")) is not None]
    return (
        row.training_round,
        row.attempt,
        row.aggregator,
        len(row.updates),
        len(row.left_out),
        "" if row.accuracy is None else f"{row.accuracy:.6f}",
        "" if row.loss is None else f"{row.loss:.6f}",
        row.examples,
        f"{min(accuracies):.6f}" if accuracies else "",
        f"{max(accuracies):.6f}" if accuracies else "",
        f"{row.seconds:.3f}" if row.seconds else "",
        f"{max(update.seconds for update in row.updates):.3f}" if row.updates else "",
        row.digest,
        "" if not row.metrics else "yes" if row.committed else "no",
    )


def _escaped(value: object) -> object:
    """Return a text as one printable line that no spreadsheet reads as a formula."""
    if not isinstance(value, str):
        return value
    flat = one_line(value)
    return f"'{flat}" if flat[:1] in ("=", "+", "-", "@") else flat
