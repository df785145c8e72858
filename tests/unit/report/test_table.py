from __future__ import annotations

import csv
import io
import json

from msgspec.structs import replace

from p2pfl.events import ClassScore, MemberScore, RoundRow
from p2pfl.messages import Evaluation, add_evaluations
from p2pfl.report.table import FIRST_COLUMNS, MIDDLE_COLUMNS, csv_text, json_line, jsonl_text
from tests.support.recordings import HOSTILE, finished, rows_of, score_of

ROWS = rows_of(finished())

COLUMNS = (*FIRST_COLUMNS, "accuracy", "loss", *MIDDLE_COLUMNS)
"""Columns of the table of a classification."""

SUMS = {"loss": 1.0, "mae": 3.0, "mse": 4.0, "target": 0.0, "target_square": 10.0}
"""Sums of a regression over ten examples: R2 is 0.9."""


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_table_has_a_header_and_a_line_for_each_round_of_training() -> None:
    rows = table(csv_text(ROWS))
    own = [f"accuracy of {name}" for name in sorted({one.name for row in ROWS for one in row.scores})]
    assert list(rows[0]) == [*COLUMNS, *own]
    one = ROWS[4].scores[0]
    assert rows[4][f"accuracy of {one.name}"] == f"{one.mean('accuracy'):.6f}"
    assert [int(row["round"]) for row in rows] == list(range(1, 21))


def test_numbers_are_those_of_the_round() -> None:
    scores = (score_of("a", 9, 10, 1.0), score_of("b", 4, 10, 1.0))
    row = replace(
        ROWS[4], metrics={"accuracy": 0.65, "loss": 0.5}, scores=scores, left_out=(("c", "silent"),)
    )
    (line,) = table(csv_text([row]))
    assert (line["accuracy"], line["loss"]) == ("0.650000", "0.500000")
    assert (line["worst_member"], line["best_member"]) == ("0.400000", "0.900000")
    assert (line["updates"], line["left_out"], line["model"]) == ("6", "1", row.digest)
    assert float(line["slowest_training"]) == round(max(update.seconds for update in row.updates), 3)


def test_what_is_not_known_is_empty() -> None:
    (line,) = table(csv_text([replace(ROWS[0], metrics={}, scores=(), updates=())]))
    empty = {name for name, value in line.items() if not value}
    assert empty == {"accuracy", "loss", "worst_member", "best_member", "slowest_training", "committed"}


def regression(**changes: object) -> RoundRow:
    scores = tuple(MemberScore.of(name, Evaluation(10, SUMS)) for name in ("a", "b"))
    metrics = add_evaluations([Evaluation(10, SUMS), Evaluation(10, SUMS)]).metrics
    made = replace(ROWS[4], metrics=metrics, scores=scores, primary="r2", direction="max")
    return replace(made, **changes)


def test_a_regression_has_its_own_metrics_and_no_accuracy() -> None:
    (line,) = table(csv_text([regression()]))
    assert list(line) == [*FIRST_COLUMNS, "r2", "loss", *MIDDLE_COLUMNS, "mae", "mse", "r2 of a", "r2 of b"]
    assert (line["r2"], line["loss"], line["mae"], line["mse"]) == (
        "0.900000",
        "0.100000",
        "0.300000",
        "0.400000",
    )
    assert line["worst_member"] == line["r2 of b"] == "0.900000"


def test_the_worst_member_has_the_largest_value_where_less_is_better() -> None:
    scores = (score_of("a", 0, 10, 1.0), score_of("b", 0, 10, 5.0))
    row = replace(ROWS[4], metrics={"loss": 0.3}, scores=scores, primary="loss", direction="min")
    (line,) = table(csv_text([row]))
    assert (line["worst_member"], line["best_member"]) == ("0.500000", "0.100000")
    assert "accuracy" not in line
    assert list(line).count("loss") == 1


def test_json_has_every_metric_of_all_and_of_each_member_and_the_counts_of_classes_by_name() -> None:
    fields = json.loads(json_line(regression(classes=(ClassScore("cat", 3, 4, 5),))))
    assert (fields["primary"], fields["direction"], fields["accuracy"]) == ("r2", "max", None)
    assert set(fields["metrics"]) == {"r2", "loss", "mae", "mse"}
    assert fields["scores"][0]["metrics"] == fields["metrics"]
    assert fields["classes"] == {"cat": {"right": 3, "examples": 4, "predicted": 5}}


def test_scores_without_samples_are_left_out() -> None:
    (line,) = table(csv_text([replace(ROWS[0], scores=(score_of("a", 0, 0, 0.0),))]))
    assert line["worst_member"] == ""


def test_no_name_is_a_formula_or_breaks_a_line() -> None:
    for name in ("=1+1", "+1", "-1", "@x", HOSTILE, 'a",b\r\nc'):
        (line,) = table(csv_text([replace(ROWS[0], aggregator=name)]))
        assert line["aggregator"][:1] not in ("=", "+", "-", "@")
        assert line["aggregator"].isprintable()


def test_lines_of_json_hold_each_round_of_training() -> None:
    lines = [json.loads(line) for line in jsonl_text(ROWS).splitlines()]
    assert [line["round"] for line in lines] == list(range(1, 21))
    first = lines[0]["updates"][0]
    assert first.keys() == {"name", "samples", "steps", "planned_steps", "loss", "seconds"}
    assert first["planned_steps"] == first["steps"]


def test_an_update_that_the_deadline_cut_has_more_planned_steps() -> None:
    cut = replace(ROWS[0].updates[0], steps=37, planned=120)
    line = json.loads(json_line(replace(ROWS[0], updates=(cut,))))
    assert (line["updates"][0]["steps"], line["updates"][0]["planned_steps"]) == (37, 120)


def test_a_line_of_json_is_ascii() -> None:
    row = replace(ROWS[0], aggregator="ä\x1b", left_out=(("ö", "silent"),))
    line = json_line(row)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["left_out"] == [{"name": "ö", "reason": "silent"}]


def test_no_rounds_are_a_header_and_no_line() -> None:
    assert csv_text([]) == ",".join(COLUMNS) + "\r\n"
    assert jsonl_text([]) == ""


def test_tables_count_rounds_of_training_and_say_what_is_committed() -> None:
    row = replace(ROWS[19], round=22, trained=21, committed=False, seconds=0.0)
    (line,) = table(csv_text([row]))
    assert (line["round"], line["committed"], line["seconds"]) == ("21", "no", "")
    fields = json.loads(jsonl_text([row]))
    assert (fields["round"], fields["index"], fields["committed"]) == (21, 22, False)
    assert fields["seconds"] is None


def test_json_has_seconds_to_the_millisecond() -> None:
    update = replace(ROWS[0].updates[0], seconds=0.123456)
    fields = json.loads(json_line(replace(ROWS[0], seconds=1.23456789, updates=(update,))))
    assert fields["seconds"] == 1.235
    assert fields["updates"][0]["seconds"] == 0.123
