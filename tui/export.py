"""Exports the rounds on the screen to a file, in the formats of `p2pfl history`."""

from __future__ import annotations

from pathlib import Path

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.observe.state import State
from p2pfl.report.files import report_content, write_report


def rows_of(state: State) -> list[RoundRow]:
    """Return the rounds of *state* in the format of the journal's rows."""
    return [
        RoundRow(
            run=one.run, round=one.index, kind="train", attempt=one.attempt, aggregator=one.aggregator,
            digest=one.digest, parent="", record="", members=one.members, updates=one.updates,
            left_out=one.left_out, metrics=one.metrics, examples=one.examples,
            scores=one.scores, seconds=one.seconds, note=one.note,
            then="end" if one.then == "end" else "pause" if one.then == "pause" else "go",
            trained=one.round, committed=not one.is_provisional,
            primary=state.primary, direction=state.measures.direction,
        )
        for one in state.rounds
    ]  # fmt: skip


def write(path: Path, state: State) -> int:
    """Write the rounds to *path* in the format of its file name extension; return the number of rounds.

    Raises:
        UserError: the extension is unknown, no round is decided, or the file cannot be written.
    """
    rows = rows_of(state)
    if not rows:
        raise UserError("no round is decided yet: there is nothing to write")
    write_report(path, report_content(path, rows, list(state.local_only.values())))
    return len(rows)
