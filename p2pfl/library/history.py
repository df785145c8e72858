"""`p2pfl.history`: the committed rounds in a node's data directory, as typed rows and as a pandas table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfl.errors import UserError
from p2pfl.events import RoundRow
from p2pfl.observe.target import find_data_dir
from p2pfl.paths import full
from p2pfl.report.runs import choose_run
from p2pfl.store.directory import DataDirectory

if TYPE_CHECKING:
    import pandas as pd


class RoundHistory(list[RoundRow]):
    """The committed training rounds of a run, in order."""

    def __init__(self, rows: Iterable[RoundRow], run: str) -> None:
        super().__init__(rows)
        self.run = run
        """The id of the run."""

    def to_pandas(self, *, members: bool = False) -> pd.DataFrame:
        """Return a table of these rounds; see `frame`.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(self, members=members)


def history(data_dir: str | os.PathLike[str] | None = None, *, run: str | None = None) -> RoundHistory:
    """Return the committed training rounds of a run, also while its node runs.

    Args:
        data_dir: the data directory of a node; None: your only one on this machine.
        run: how the id of the run begins; None: the newest run.

    Raises:
        UserError: there is no journal, or no such run in it.
    """
    folder = full(Path(data_dir)) if data_dir is not None else find_data_dir()
    with DataDirectory(folder).read_journal() as journal:
        chosen = choose_run(journal.runs(), run, folder)
        rows = [row for row in journal.rounds(chosen.run) if row.kind == "train"]
    return RoundHistory(rows, chosen.run)


def frame(rows: Iterable[RoundRow], *, members: bool = False) -> pd.DataFrame:
    """Return a table of *rows* with a column for each metric; the index is the number of the round.

    With *members*, the index is round and member, and the values are those of each member: its evaluation of
    the round's model, and its training.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UserError(
            "A table of the history needs the package pandas, which is not installed here: "
            "pip install 'p2pfl-lan[pandas]'."
        ) from error
    if members:
        of_members = [one for row in rows for one in _members(row)]
        return pd.DataFrame(of_members, columns=_columns(of_members, "round", "member")).set_index(
            ["round", "member"]
        )
    lines = [_line(row) for row in rows]
    return pd.DataFrame(lines, columns=_columns(lines, "round")).set_index("round")


def _columns(lines: Iterable[dict[str, Any]], *always: str) -> list[str]:
    """Return the names in *lines*, in the order in which they appear, after those that are *always* there."""
    return list(dict.fromkeys([*always, *(name for line in lines for name in line)]))


def _line(row: RoundRow) -> dict[str, Any]:
    return {
        "round": row.training_round,
        **row.metrics,
        "examples": row.examples,
        "committed": row.committed and bool(row.metrics),
        "updates": len(row.updates),
        "left_out": len(row.left_out),
        "aggregator": row.aggregator,
        "attempt": row.attempt,
        "seconds": row.seconds or None,
        "digest": row.digest,
    }


def _members(row: RoundRow) -> list[dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = {}
    for score in row.scores:
        means = {metric: score.mean(metric) for metric in score.sums}
        lines[score.name] = {**means, "examples": score.examples}
    for update in row.updates:
        lines.setdefault(update.name, {}).update(
            training_examples=update.examples,
            training_steps=update.steps,
            training_planned_steps=update.planned or update.steps,
            training_loss=update.loss,
            training_seconds=update.seconds,
        )
    return [{"round": row.training_round, "member": name, **line} for name, line in lines.items()]
