"""The table of rounds that commands print."""

from __future__ import annotations

import msgspec
from rich.console import Console

from p2pfl.events import RoundRow
from p2pfl.report.terminal import primary_text, round_table
from tests.support import recordings


def printed(rounds: list[RoundRow], digest_length: int = 0) -> list[list[str]]:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(round_table(rounds, digest_length))
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_the_table_has_a_row_for_each_training_round() -> None:
    rounds = recordings.rows_of(recordings.finished())
    rows = printed(rounds)
    assert rows[0] == ["round", "aggregator", "updates", "accuracy", "loss", "seconds"]
    assert [row[0] for row in rows[2:]] == [str(row.training_round) for row in rounds if row.kind == "train"]


def test_with_a_digest_the_table_names_the_model_and_the_attempt() -> None:
    [row] = [row for row in recordings.rows_of(recordings.finished()) if row.training_round == 3]
    rows = printed([row], 7)
    assert rows[0][:2] == ["round", "try"]
    assert rows[2][:2] == ["3", str(row.attempt)]
    assert rows[2][-1] == row.digest[:7]


def test_an_accuracy_that_is_not_committed_is_marked() -> None:
    row = recordings.rows_of(recordings.finished())[0]
    known = msgspec.structs.replace(row, metrics={"accuracy": 0.5}, committed=True)
    assert primary_text(known) == "0.5000"
    assert primary_text(msgspec.structs.replace(known, committed=False)) == "~0.5000"
    assert primary_text(msgspec.structs.replace(known, metrics={})) == "-"


def test_a_regression_has_a_column_of_its_own_metric_and_none_of_accuracy() -> None:
    row = recordings.rows_of(recordings.finished())[0]
    metrics = {"r2": -0.25, "loss": 1234567.0}
    rows = printed([msgspec.structs.replace(row, metrics=metrics, primary="r2", committed=True)])
    assert rows[0] == ["round", "aggregator", "updates", "r2", "loss", "seconds"]
    assert rows[2][-3:-1] == ["-0.2500", "1.235e+06"]


def test_a_metric_of_ones_own_alone_has_one_column_whatever_its_name() -> None:
    row = recordings.rows_of(recordings.finished())[0]
    rows = printed(
        [
            msgspec.structs.replace(
                row, metrics={"intersection_over_union": 0.5}, primary="intersection_over_union"
            )
        ]
    )
    assert rows[0] == ["round", "aggregator", "updates", "intersectio…", "seconds"]
    loss = printed([msgspec.structs.replace(row, metrics={"loss": 0.5}, primary="loss", direction="min")])
    assert loss[0].count("loss") == 1
