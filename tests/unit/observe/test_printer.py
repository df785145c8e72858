"""Lines of what a node tells: each thing once, through restarts and lost connections."""

from __future__ import annotations

import json
import time

import pytest
from msgspec.structs import replace

from p2pfl.events import Committed, Elected, EvaluationFinished, Measured, Notice, Published, RoundRow
from p2pfl.observe.connection import Connected, Connection, NodeEnded, Retrying
from p2pfl.observe.printer import EventPrinter, connection_line, item_json, item_line
from p2pfl.wire.observing import ObserverWelcome
from tests.support.recordings import HOSTILE, finished, hostile, rows_of

RECORDING = finished()
ROWS = rows_of(RECORDING)
ONE, TWO = "1" * 32, "2" * 32


class Told:
    """A telling, and what it wrote."""

    def __init__(self, *, json: bool = False) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.it = EventPrinter(self.lines.append, self.notes.append, json=json)

    def connect(self, stream: str) -> None:
        self.it.on_connection(
            Connected(ObserverWelcome(1, "0", "ada", "id", "lab", "who", "local", (), stream, False))
        )

    def take(self, *items: Published | RoundRow) -> None:
        for item in items:
            self.it.deliver(item)

    def count(self, words: str) -> int:
        return sum(words in line for line in self.lines)


def note(seq: int, text: str) -> Published:
    return Published(seq, 100.0, Notice("info", text))


def test_past_rounds_are_a_line_each_and_then_come_events() -> None:
    told = Told()
    told.connect(ONE)
    told.take(*ROWS[:2], note(7, "hello"))
    assert [line.split(":")[0].strip() for line in told.lines[:2]] == ["round 1", "round 2"]
    assert told.lines[2].endswith(" · hello")


def test_what_a_line_of_the_history_told_is_not_told_again() -> None:
    told = Told()
    told.connect(ONE)
    told.take(*ROWS[:20], *RECORDING)
    assert told.count("round 20") == 1
    assert told.count("run complete") == 1


def test_the_accuracy_of_a_round_whose_line_had_none_is_told() -> None:
    evaluated = next(
        one
        for one in reversed(RECORDING)
        if isinstance(one.event, EvaluationFinished) and not one.event.committed
    )
    row = next(row for row in ROWS if row.round == evaluated.event.round)  # type: ignore[union-attr]
    told = Told()
    told.connect(ONE)
    told.take(replace(row, metrics={}), evaluated)
    assert told.count("not evaluated") == 1
    assert told.count("◎") == 1


def test_after_a_lost_connection_nothing_is_told_twice() -> None:
    told = Told()
    told.connect(ONE)
    told.take(*RECORDING)
    before = list(told.lines)
    told.connect(ONE)
    told.take(*ROWS, *RECORDING)
    assert told.lines == before


def test_a_restarted_node_tells_its_own_events_and_no_round_twice() -> None:
    told = Told()
    told.connect(ONE)
    told.take(*RECORDING)
    commits = told.count(" committed by ")
    told.connect(TWO)
    told.take(*ROWS, note(1, "I am back"))
    assert told.lines[-1].endswith("I am back")
    assert told.count(" committed by ") == commits
    assert told.count("averaged by") == 0


def test_for_programs_everything_is_json_and_nothing_is_left_out() -> None:
    told = Told(json=True)
    told.connect(ONE)
    told.take(ROWS[0], *RECORDING)
    decoded = [json.loads(line) for line in told.lines]
    assert decoded[0]["event"] == "history"
    assert [one["seq"] for one in decoded[1:]] == [item.seq for item in RECORDING]
    assert any(one["event"] == "committed" and one["round"] == ROWS[0].round for one in decoded)


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (Retrying(1, 0.0, "it broke"), "trying again: it broke"),
        (NodeEnded("it is complete"), "it is complete"),
    ],
)
def test_what_is_said_of_the_connection_is_kept_apart(connection: Retrying | NodeEnded, words: str) -> None:
    told = Told()
    told.it.on_connection(connection)
    assert told.lines == []
    assert words in told.notes[0]


def test_a_commit_that_was_seen_is_no_line_of_a_later_history() -> None:
    commit = next(one for one in RECORDING if isinstance(one.event, Committed))
    told = Told()
    told.connect(ONE)
    told.take(commit)
    told.connect(TWO)
    told.take(ROWS[0])
    assert len(told.lines) == 1


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
    assert "not evaluated" in str(item_line(replace(ROWS[0], metrics={})))


def test_the_record_that_closes_a_run_is_no_line_of_the_history() -> None:
    assert item_line(ROWS[-1]) is None


def test_json_lines_hold_everything() -> None:
    fields = json.loads(item_json(Published(7, 1.5, Notice("info", "so"))))
    assert fields == {"seq": 7, "time": 1.5, "event": "notice", "level": "info", "text": "so"}
    row = json.loads(item_json(ROWS[0]))
    assert (row["event"], row["round"], len(row["updates"])) == ("history", 1, 6)


def test_lines_are_printable_whatever_the_names() -> None:
    recording = hostile()
    items: list[Published | RoundRow] = [*rows_of(recording), *recording]
    lines = [item_line(item) for item in items]
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
        (NodeEnded("the run is complete"), "-- the run is complete"),
    ],
)
def test_a_change_of_the_connection_is_told_once(connection: Connection, line: str | None) -> None:
    assert connection_line(connection) == line


def test_a_round_that_was_missed_has_no_seconds_and_a_reported_accuracy_is_marked() -> None:
    row = rows_of(finished())[0]
    line = item_line(replace(row, seconds=0.0, committed=False, round=9, trained=8))
    assert line is not None
    assert line.strip().startswith("round 8: accuracy ")
    assert f"on {row.examples} samples, reported by 6 members; 6 of 6 updates, averaged by " in line
    assert " in " not in line.partition("averaged by")[2]


def test_events_tell_people_and_programs_the_training_round() -> None:
    item = Published(3, 1.0, Elected(62, 1, "ada", "id", 2), 61)
    line = item_line(item)
    assert line is not None
    assert "round 61: ada" in line
    fields = json.loads(item_json(item))
    assert (fields["round"], fields["training_round"]) == (62, 61)
