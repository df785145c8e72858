from __future__ import annotations

from p2pfl import events
from p2pfl.demo.control import Command
from p2pfl.demo.director import REVIVE_SECONDS, ROUNDS_AFTER, Director, Plan
from p2pfl.events import AnyEvent, Published
from tests.support.records import SPEC, digest

NAMES = ("ada", "ben", "cleo", "dan")


def committed(number: int) -> events.Committed:
    return events.Committed(
        digest("run"),
        number,
        "train",
        1,
        "ada",
        digest("m"),
        digest("r"),
        NAMES,
        (),
        (),
        number,
        10,
        "go",
        "",
        1.0,
    )


def told(director: Director, *what: AnyEvent) -> list[str]:
    return [text for event in what for text in director.take(Published(1, 1.0, event))]


def state(director: Director) -> tuple[bool, bool]:
    return director.is_open_ended, director.has_shown_enough


def test_what_happens_is_explained_once() -> None:
    director = Director(Plan(NAMES))
    joined = events.RunJoined(digest("run"), "founded", 0, SPEC, NAMES)
    elected = events.Elected(1, 1, "ada", "a" * 52, 3)
    texts = told(
        director, joined, elected, committed(1), events.Notice("info", "x"), joined, elected, committed(2)
    )
    assert len(texts) == 3
    assert "no server" in texts[1]
    ended = events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9})
    assert "trained on one node's data alone" in told(director, ended)[0]


def test_a_script_s_model_is_not_compared() -> None:
    ended = events.RunEnded(digest("run"), 1, digest("model"), {})
    assert told(Director(Plan(NAMES, is_compared=False)), ended) == []


def test_the_opening_says_what_is_slowed_down_and_what_one_can_do() -> None:
    plain = Director(Plan(NAMES)).opening()
    assert len(plain) == 1
    said = " ".join(Director(Plan(NAMES, 3.0, is_endless=True, kill_at=2)).opening())
    assert "at least 3 s (--pace)" in said
    assert "press k" in said
    assert "dan will be killed in round 2" in said


def test_a_killed_node_is_counted_against_the_quorum() -> None:
    director = Director(Plan(NAMES))
    assert "3 of 4 nodes are left and 3 are needed: the round goes on" in director.note_killed("ben")[0]
    assert "2 of 4 nodes are left and 3 are needed: nothing commits" in director.note_killed("cleo")[0]
    assert len(director.note_started("ben")) == 1
    assert "3 of 4" in director.note_killed("cleo")[0]


def test_an_endless_demo_ends_some_rounds_after_a_node_has_come_back() -> None:
    director = Director(Plan(NAMES, is_endless=True))
    told(director, committed(3))
    assert state(director) == (True, False)
    director.note_killed("ben")
    assert state(director) == (True, False)
    assert director.rounds == 0
    assert f"ends after round {3 + ROUNDS_AFTER}" in director.note_started("ben")[1]
    assert director.rounds == 3 + ROUNDS_AFTER
    assert state(director) == (True, False)
    told(director, committed(4))
    assert state(director) == (True, True)
    told(director, events.RunEnded(digest("run"), 5, digest("model"), {}))
    assert state(director) == (False, False)


def test_a_demo_with_a_number_of_rounds_is_never_stopped() -> None:
    director = Director(Plan(NAMES))
    director.note_killed("ben")
    director.note_started("ben")
    told(director, committed(9))
    assert state(director) == (False, False)
    assert director.rounds is None


def test_kill_at_kills_once_and_starts_after_the_commit() -> None:
    director = Director(Plan(NAMES, kill_at=2))
    assert director.commands(1, 10.0) == []
    assert director.commands(2, 11.0) == [Command("kill", "dan")]
    assert director.commands(2, 12.0) == []
    told(director, committed(2))
    assert director.commands(3, 13.0) == [Command("start", "dan")]
    assert director.commands(4, 99.0) == []


def test_without_a_commit_the_node_is_started_after_a_while() -> None:
    director = Director(Plan(NAMES[:2], kill_at=1))
    assert director.commands(1, 10.0) == [Command("kill", "ben")]
    assert director.commands(1, 10.0 + REVIVE_SECONDS - 1) == []
    assert director.commands(1, 10.0 + REVIVE_SECONDS) == [Command("start", "ben")]
