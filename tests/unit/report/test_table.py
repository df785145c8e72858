from __future__ import annotations

import csv
import io
import json

from msgspec.structs import replace

from p2pfl.report.table import COLUMNS, csv_text, json_line, jsonl_text
from tests.support.recordings import HOSTILE, finished, rows_of, score_of

ROWS = rows_of(finished())


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_table_has_a_header_and_a_line_for_each_round_of_training() -> None:
    rows = table(csv_text(ROWS))
    assert tuple(rows[0]) == COLUMNS
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
    assert lines[0]["updates"][0].keys() == {"name", "samples", "steps", "loss", "seconds"}


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
