from __future__ import annotations

import math

import pytest

from p2pfl import events
from p2pfl.events import AnyEvent, CountedUpdate, LinkMeasure, MemberScore, Published
from p2pfl.numbering import Numbering
from p2pfl.tracking.measures import EventMeasures, Measurement
from tests.support.recordings import finished


def take(measures: EventMeasures, event: AnyEvent, number: int | None = None) -> dict[tuple[str, str], float]:
    """Return the values that *event* adds, by name and node; they are all of one round."""
    taken = measures.take(Published(1, 5.0, event, number))
    assert len({one.round for one in taken}) <= 1
    return {(one.name, one.node): one.value for one in taken}


def committed(trained: int, seconds: float = 2.5, loss: float = 0.5) -> events.Committed:
    updates = (CountedUpdate("ada", 60, 4, loss, 1.5), CountedUpdate("ben", 40, 4, 0.25, 2.0))
    return events.Committed(
        "run",
        trained + 3,
        "train",
        1,
        "ada",
        "m",
        "r",
        ("ada", "ben"),
        updates,
        (),
        trained,
        9,
        "go",
        "",
        seconds,
    )


def measured(**links: tuple[int, int]) -> events.Measured:
    return events.Measured(0.5, 10, tuple(LinkMeasure(name, None, *moved) for name, moved in links.items()))


def evaluated(accuracy: float, *, committed: bool) -> events.EvaluationFinished:
    scores = (MemberScore("ada", 10, {"accuracy": 5.0, "loss": 20.0}),)
    return events.EvaluationFinished(4, {"accuracy": accuracy}, 30, 1, 2, scores, committed)


def test_a_commit_tells_how_long_the_round_and_each_training_took() -> None:
    assert take(EventMeasures("ada"), committed(7)) == {
        ("updates", ""): 2,
        ("seconds", ""): 2.5,
        ("training_loss", "ada"): 0.5,
        ("training_seconds", "ada"): 1.5,
        ("training_examples", "ada"): 60,
        ("training_loss", "ben"): 0.25,
        ("training_seconds", "ben"): 2.0,
        ("training_examples", "ben"): 40,
    }
    [first, *_] = EventMeasures("ada").take(Published(1, 5.0, committed(7), 7))
    assert first.round == 7, "as people count rounds, not as the chain does"


def test_a_round_that_was_missed_has_no_duration_and_no_number_is_nan() -> None:
    values = take(EventMeasures("ada"), committed(7, seconds=0.0, loss=math.nan))
    assert ("seconds", "") not in values
    assert ("training_loss", "ada") not in values
    assert ("training_loss", "ben") in values


def test_the_bytes_of_a_round_are_those_since_the_round_before_also_of_links_that_ended() -> None:
    measures = EventMeasures("ada")
    take(measures, measured(ben=(100, 10), cleo=(1, 2)))
    take(measures, committed(1))
    assert take(measures, measured(ben=(150, 20), cleo=(1, 2))) == {
        ("bytes_sent", "ada"): 151,
        ("bytes_received", "ada"): 22,
    }
    assert take(measures, measured(ben=(170, 20))) == {}, "no round was committed since"
    take(measures, committed(2))
    assert take(measures, measured(ben=(180, 25))) == {
        ("bytes_sent", "ada"): 30,
        ("bytes_received", "ada"): 5,
    }


def test_an_evaluation_is_written_once_when_it_is_committed() -> None:
    measures = EventMeasures("ada")
    assert take(measures, evaluated(0.4, committed=False), 3) == {}
    assert take(measures, evaluated(0.5, committed=True), 3) == {
        ("accuracy", ""): 0.5,
        ("accuracy", "ada"): 0.5,
        ("loss", "ada"): 2.0,
    }
    assert take(measures, events.Ended(0, "done")) == {}


def test_what_was_only_reported_is_written_at_the_end() -> None:
    measures = EventMeasures("ada")
    take(measures, evaluated(0.4, committed=False), 3)
    take(measures, evaluated(0.6, committed=False), 3)
    taken = measures.take(Published(1, 5.0, events.Ended(3, "left"), None))
    assert [(one.round, one.value) for one in taken if one.tag == "accuracy/all"] == [(3, 0.6)]


def test_the_traffic_of_the_last_round_is_written_at_the_end() -> None:
    measures = EventMeasures("ada")
    take(measures, committed(1))
    assert take(measures, events.Ended(0, "done")) == {("bytes_sent", "ada"): 0, ("bytes_received", "ada"): 0}


def test_every_round_of_a_recorded_run_is_measured() -> None:
    numbering, measures = Numbering(), EventMeasures("ada")
    said = [one.event for one in finished()]
    numbered = [Published(1, 5.0, event, numbering.take(event)) for event in said]
    taken = [one for published in numbered for one in measures.take(published)]
    rounds = {event.trained for event in said if isinstance(event, events.Committed)}
    for name in ("updates", "accuracy"):
        assert {one.round for one in taken if one.name == name} == rounds
    measured = {one.round for one in taken if one.name == "bytes_sent"}
    assert measured == {16, 17, 18, 19, 20}, "an observer was there in these only"
    assert all(math.isfinite(one.value) for one in taken)


@pytest.mark.parametrize(("node", "tag"), [("", "loss/all"), ("ada", "loss/ada")])
def test_curves_of_one_metric_are_grouped(node: str, tag: str) -> None:
    assert Measurement(1, "loss", node, 0.5).tag == tag
