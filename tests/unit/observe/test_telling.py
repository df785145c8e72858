"""Lines of what a node tells: each thing once, through restarts and lost connections."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from p2pfl.events import Committed, EvaluationFinished, Notice, Published, RoundRow
from p2pfl.observe.connection import Connected, Over, Retrying
from p2pfl.observe.telling import Telling
from p2pfl.wire.observing import ObserverWelcome
from tests.support.recordings import finished, rows_of

RECORDING = finished()
ROWS = rows_of(RECORDING)
ONE, TWO = "1" * 32, "2" * 32


class Told:
    """A telling, and what it wrote."""

    def __init__(self, *, json: bool = False) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.it = Telling(self.lines.append, self.notes.append, json=json)

    def connect(self, stream: str) -> None:
        self.it.tell(
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
    told.take(replace(row, accuracy=None, loss=None), evaluated)
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
    [(Retrying(1, 0.0, "it broke"), "trying again: it broke"), (Over("it is complete"), "it is complete")],
)
def test_what_is_said_of_the_connection_is_kept_apart(connection: Retrying | Over, words: str) -> None:
    told = Told()
    told.it.tell(connection)
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
