from __future__ import annotations

import json
import time

import pytest
from msgspec.structs import replace

from p2pfl.events import Elected, Measured, Notice, Published
from p2pfl.observe.connection import Connected, Connection, Over, Retrying
from p2pfl.observe.plain import connection_line, item_json, item_line
from p2pfl.wire.observing import ObserverWelcome
from tests.support.recordings import HOSTILE, finished, hostile, rows_of

ROWS = rows_of(finished())


def test_an_event_is_a_line_with_its_local_time() -> None:
    when = time.mktime((2026, 3, 14, 12, 4, 31, 0, 0, -1))
    assert item_line(Published(1, when, Notice("warning", "late"))) == "12:04:31 ! late"


def test_what_matters_to_screens_only_is_no_line() -> None:
    assert item_line(Published(1, 0.0, Measured(0.1, 1, ()))) is None


def test_a_decided_round_is_one_line() -> None:
    line = item_line(ROWS[19])
    assert line is not None
    assert line.strip() == (
        f"round 20: accuracy {ROWS[19].accuracy:.4f}, loss {ROWS[19].loss:.4f}; 6 of 6 updates, "
        f"averaged by {ROWS[19].aggregator} in {ROWS[19].seconds:.1f} s"
    )


def test_a_round_nobody_evaluated_says_so() -> None:
    assert "not evaluated" in str(item_line(replace(ROWS[0], accuracy=None, loss=None)))


def test_the_record_that_closes_a_run_is_no_line_of_the_history() -> None:
    assert item_line(ROWS[-1]) is None


def test_json_lines_hold_everything() -> None:
    fields = json.loads(item_json(Published(7, 1.5, Notice("info", "so"))))
    assert fields == {"seq": 7, "time": 1.5, "event": "notice", "level": "info", "text": "so"}
    row = json.loads(item_json(ROWS[0]))
    assert (row["event"], row["round"], len(row["updates"])) == ("history", 1, 6)


def test_lines_are_printable_whatever_the_names() -> None:
    recording = hostile()
    lines = [item_line(item) for item in [*rows_of(recording), *recording]]
    assert any(HOSTILE.replace("\x1b", "?") in line for line in lines if line)
    assert all(line.isprintable() for line in lines if line)


@pytest.mark.parametrize(
    ("connection", "line"),
    [
        (
            Connected(
                ObserverWelcome(
                    1, "0", "ada", "id", "lab", "op (operator)", "operator", (), "", resumed=False
                )
            ),
            "-- connected to ada of lab as op (operator)",
        ),
        (Retrying(1, 0.0, "it is gone"), "-- no connection, trying again: it is gone"),
        (Retrying(2, 0.0, "it is gone"), None),
        (Over("the run is complete"), "-- the run is complete"),
    ],
)
def test_a_change_of_the_connection_is_told_once(connection: Connection, line: str | None) -> None:
    assert connection_line(connection) == line


def test_a_round_that_was_missed_has_no_seconds_and_a_reported_accuracy_is_marked() -> None:
    row = rows_of(finished())[0]
    line = item_line(replace(row, seconds=0.0, committed=False, round=9, trained=8))
    assert line is not None
    assert line.strip().startswith("round 8: accuracy ")
    assert f"on {row.samples} samples, reported by 6 members; 6 of 6 updates, averaged by " in line
    assert " in " not in line.partition("averaged by")[2]


def test_events_tell_people_and_programs_the_training_round() -> None:
    item = Published(3, 1.0, Elected(62, 1, "ada", "id", 2), 61)
    line = item_line(item)
    assert line is not None
    assert "round 61: ada" in line
    fields = json.loads(item_json(item))
    assert (fields["round"], fields["training_round"]) == (62, 61)
