"""People count rounds of training, records are counted otherwise; one place maps them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from p2pfl import events
from p2pfl.numbering import Numbering
from tests.support.any_events import any_event
from tests.support.records import SPEC

RUN = "1" * 64


def joined(round_: int, trained: int | None, run: str = RUN) -> events.RunJoined:
    return events.RunJoined(run, "resumed", round_, SPEC, ("ada",), trained=trained)


def committed(round_: int, trained: int, run: str = RUN) -> events.Committed:
    return events.Committed(
        run, round_, "train", 1, "ada", "2" * 64, "3" * 64, ("ada",), (), (), trained, 100, "go", "", 1.0
    )


def test_without_a_closing_evaluation_both_numbers_are_the_same() -> None:
    numbering = Numbering()
    assert numbering.of(5) == 5
    numbering.note(1, 1)
    assert [numbering.of(index) for index in (1, 2, 60)] == [1, 2, 60]


def test_after_a_closing_evaluation_training_rounds_go_on_without_a_gap() -> None:
    numbering = Numbering()
    for index, trained in ((59, 59), (60, 60), (61, 60), (62, 61), (63, 62)):
        numbering.note(index, trained)
    assert [numbering.of(index) for index in (58, 60, 61, 62, 63, 64)] == [58, 60, 60, 61, 62, 63]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_the_order_in_which_rounds_are_learned_of_does_not_matter(order: tuple[int, ...]) -> None:
    known = ((1, 1), (3, 2), (4, 3), (6, 4))
    numbering = Numbering()
    for position in order:
        numbering.note(*known[position])
    assert [numbering.of(index) for index, _ in known] == [trained for _, trained in known]


def test_what_is_known_takes_no_more_room_the_longer_the_run() -> None:
    numbering = Numbering()
    for index in range(1, 1000):
        numbering.note(index, index)
    assert len(numbering._from) == 1


def test_a_run_that_continues_another_counts_on() -> None:
    numbering = Numbering()
    assert numbering.take(joined(0, 7)) == 7
    assert numbering.take(events.TrainingStarted(1, 0)) == 8
    assert numbering.take(committed(1, 8)) == 8


def test_events_are_about_training_rounds() -> None:
    numbering = Numbering()
    numbering.take(joined(61, 60))
    assert numbering.take(events.Elected(62, 1, "ada", "a", 2)) == 61
    assert numbering.take(events.ProgressMade(62, "train", 1, 2)) == 61
    assert numbering.take(events.EvaluationFinished(61, {"accuracy": 0.9, "loss": 0.1}, 10, 1, 1)) == 60
    status = events.PeerStatus("b", "ben", RUN, 61, True, "idle", 0.0, 0.0, 1, True, False)
    assert numbering.take(status) == 60
    assert numbering.take(msgspec.structs.replace(status, run="")) is None


def test_what_is_about_no_round_has_no_number() -> None:
    numbering = Numbering()
    assert numbering.take(events.Notice("info", "hello")) is None
    assert numbering.take(events.ProgressMade(0, "pull", 1, 2, "ben")) is None


@given(any_event)
def test_every_event_of_a_record_has_the_number_of_its_round(event: events.AnyEvent) -> None:
    number = Numbering().take(event)
    match event:
        case events.Committed():
            assert number == event.trained
        case events.PeerStatus():
            assert (number is not None) == (event.run == "")
        case events.ProgressMade():
            assert (number is not None) == (event.what == "train")
        case _:
            assert (number is not None) == ("round" in event.__struct_fields__)


def test_another_run_begins_anew() -> None:
    numbering = Numbering()
    numbering.take(joined(61, 60))
    numbering.take(joined(0, 0, "2" * 64))
    assert numbering.of(3) == 3


def test_a_commit_of_another_run_changes_nothing() -> None:
    numbering = Numbering()
    numbering.take(joined(61, 60))
    numbering.take(committed(1, 1, "2" * 64))
    assert numbering.of(62) == 61
