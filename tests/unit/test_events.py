"""Events are values with a tag: JSON lines can be read back, and every event is in the union."""

from __future__ import annotations

import gc
import typing
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.events import AnyEvent, Elected, EvaluationFinished, Event, RunJoined
from tests.support.records import SPEC

KINDS = typing.get_args(AnyEvent)


def test_every_event_of_the_module_is_in_the_union() -> None:
    made = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert made == set(KINDS)


def test_tags_are_the_names_in_snake_case_and_distinct() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags)
    for kind, tag in zip(KINDS, tags, strict=True):
        assert tag.replace("_", "") == kind.__name__.lower()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_events_are_frozen(kind: Any) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.tag_field == "event"


def test_the_garbage_collector_does_not_look_at_events_since_none_can_be_part_of_a_cycle() -> None:
    score = events.MemberScore("a", 10, {"accuracy": 9.0})
    finished = EvaluationFinished(1, {"accuracy": 0.9}, 10, 1, 1, (score,))
    looked_at = [one for one in (score, finished, events.Published(1, 0.0, finished)) if gc.is_tracked(one)]
    assert not looked_at


def test_a_member_without_examples_has_measured_nothing() -> None:
    score = events.MemberScore("a", 0, {"accuracy": 0.0}, {"f1": 0.0})
    assert (score.mean("accuracy"), score.mean("f1"), score.metrics) == (None, None, {})
    score = events.MemberScore("a", 4, {"accuracy": 3.0}, {"f1": 0.5})
    assert (score.mean("accuracy"), score.mean("f1"), score.mean("loss")) == (0.75, 0.5, None)


def test_an_election_reads_as_its_round_attempt_and_the_aggregators_name() -> None:
    line = msgspec.json.decode(msgspec.json.encode(Elected(3, 1, "pi", "n" * 52, 2)))
    assert line == {
        "event": "elected",
        "round": 3,
        "attempt": 1,
        "aggregator": "pi",
        "node": "n" * 52,
        "votes": 2,
        "kind": "train",
    }


@pytest.mark.parametrize(
    "event",
    [
        EvaluationFinished(1, {"accuracy": 0.5, "loss": 1.25}, 10, 1, 3),
        RunJoined("r", "founded", 0, SPEC, ("a", "b")),
    ],
    ids=["evaluated", "run_joined"],
)
def test_a_line_is_read_back_as_the_event_it_was(event: EvaluationFinished | RunJoined) -> None:
    assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event
