"""What the demo tells of several nodes' events: each thing once, and what each node does."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl import events
from p2pfl.demo.story import Line, Story, shape_of
from p2pfl.events import Published
from tests.support.recordings import part_of
from tests.support.records import SPEC, digest

NAMES = ("ada", "ben", "cleo")
JOINED = events.RunJoined(digest("run"), "joined", 0, SPEC, NAMES)


def committed(round_: int, **changes: object) -> events.Committed:
    event = events.Committed(
        run=digest("run"),
        round=round_,
        kind="train",
        attempt=1,
        aggregator="ada",
        digest=digest(("model", round_)),
        record=digest(("record", round_)),
        members=NAMES,
        updates=tuple(events.CountedUpdate(name, 100, 7, 0.5, 0.25) for name in NAMES),
        left_out=(),
        trained=round_,
        rounds=10,
        then="go",
        note="",
        seconds=1.0,
    )
    return msgspec.structs.replace(event, **changes)


def evaluated(round_: int, reports: int) -> events.EvaluationFinished:
    return events.EvaluationFinished(
        round_, {"accuracy": 0.5 + reports / 10, "loss": 0.25}, 120 * reports, reports, 3
    )


def take(story: Story, name: str, event: events.AnyEvent, training_round: int | None = None) -> list[Line]:
    return story.take(name, Published(1, 0.0, event, training_round))


def told_by_all(story: Story, event: events.AnyEvent) -> list[Line]:
    """Let every node report *event*."""
    return [line for name in NAMES for line in take(story, name, event)]


@pytest.mark.parametrize(
    "event",
    [
        JOINED,
        events.Elected(1, 1, "ada", "a" * 52, 2),
        committed(1),
        evaluated(1, 3),
        events.RosterChanged(1, ("dan",), (), 4, 1),
        events.QuorumLost(1, 1, 3, 2),
        events.QuorumBack(1, 2, 3),
        events.UpdateRefused(1, "ben", "NaN in it"),
        events.SteppedDown(1, 1, "ada", "its disk is full"),
        events.PeerLost("d" * 52, "dan", "it fell silent"),
        events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1}),
    ],
)
def test_what_all_nodes_report_is_told_once(event: events.AnyEvent) -> None:
    story = Story(NAMES)
    assert len(told_by_all(story, event)) == 1
    assert told_by_all(story, event) == []


@pytest.mark.parametrize(
    "event",
    [
        events.WorkerFailed("killed"),
        events.Notice("warning", "mind the gap"),
        events.PeerRefused("192.0.2.9:1", "another CA"),
        events.OptionsIgnored(("epochs 7 (the run has 1)",)),
        events.Waiting(3, 3, "ben lacks x", is_mismatch=True),
    ],
)
def test_what_concerns_one_node_is_told_with_its_name(event: events.AnyEvent) -> None:
    lines = told_by_all(Story(NAMES), event)
    assert [text.partition(":")[0] for _, text in lines] == list(NAMES)


@pytest.mark.parametrize(
    "event",
    [
        events.ProgressMade(1, "train", 1, 2),
        events.Notice("info", "serving"),
        events.Waiting(2, 3, "2 of 3 nodes are here"),
        events.PeerLinked("b" * 52, "ben", "127.0.0.1:1"),
        events.TrainingFinished(1, digest("update"), 3, 7, 0.5, 1.0),
        events.Ended(0, "done"),
        evaluated(1, 2),
    ],
)
def test_what_matters_to_a_single_node_only_is_not_told(event: events.AnyEvent) -> None:
    assert told_by_all(Story(NAMES), event) == []


def test_two_attempts_and_two_rounds_are_different_things() -> None:
    story = Story(NAMES)
    elections = [(1, 1, "ada"), (1, 2, "ben"), (2, 1, "ada")]
    lines = [
        line
        for round_, attempt, name in elections
        for line in told_by_all(story, events.Elected(round_, attempt, name, name[0] * 52, 2))
    ]
    assert len(lines) == 3


def test_a_peer_lost_again_is_told_again() -> None:
    story = Story(NAMES)
    lost = events.PeerLost("b" * 52, "ben", "it fell silent")
    assert len(told_by_all(story, lost)) == 1
    told_by_all(story, events.PeerLinked("b" * 52, "ben", "127.0.0.1:1"))
    assert len(told_by_all(story, lost)) == 1


def test_links_that_end_with_the_run_are_no_news() -> None:
    story = Story(NAMES)
    take(story, "ada", events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1}))
    assert told_by_all(story, events.PeerLost("a" * 52, "ada", "it said goodbye")) == []


def test_an_accuracy_that_not_all_report_is_told_when_the_next_round_is_decided() -> None:
    story = Story(NAMES)
    told_by_all(story, committed(1))
    told_by_all(story, evaluated(1, 2))
    lines = told_by_all(story, committed(2))
    assert lines[0] == (
        "◎",
        "round 1: accuracy 0.7000, loss 0.2500 on 240 samples, reported by 2 of 3 members",
    )
    assert [mark for mark, _ in lines] == ["◎", "✓"]


def test_the_heading_follows_round_accuracy_and_roster() -> None:
    story = Story(NAMES)
    told_by_all(story, JOINED)
    assert (story.round, story.rounds, story.members, story.needed()) == (0, SPEC.rounds, NAMES, 2)
    told_by_all(story, committed(1, members=("ada", "ben")))
    take(story, "ada", evaluated(1, 3))
    take(story, "ben", evaluated(1, 2))
    assert (story.round, story.value, story.members) == (1, 0.8, ("ada", "ben"))
    take(story, "ben", events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1}))
    assert story.complete == {"ben"}


def test_addresses_are_known_from_the_start() -> None:
    story = Story(NAMES)
    take(story, "ada", events.Started("ada", "a" * 52, "demo", "127.0.0.1:5, [::1]:5", "/data", 0.3))
    assert story.addresses == {"ada": "127.0.0.1:5"}


def test_a_nodes_row_says_what_it_does() -> None:
    story, view = Story(NAMES), None
    seen = []
    for event in (
        events.Started("ada", "a" * 52, "demo", "127.0.0.1:5", "/data", 0.3),
        events.WorkerReady("digits", "cpu", 1437, 99, 2.0),
        events.TrainingStarted(1, 0),
        events.Elected(1, 1, "ada", "a" * 52, 2),
        events.ProgressMade(1, "train", 5, 10),
        events.TrainingFinished(1, digest("update"), 3, 7, 0.5, 1.0),
        events.UpdateCounted(1, "ada", 3),
        events.Proposed(1, 1, digest("model"), 3, False),
        committed(1),
        events.QuorumLost(2, 1, 3, 2),
        events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1}),
        events.Ended(0, "done"),
    ):
        take(story, "ada", event)
        view = story.views["ada"]
        seen.append((view.doing, view.share, view.is_aggregator))
    assert seen == [
        ("loading torch", None, False),
        ("ready", None, False),
        ("training", 0.0, False),
        ("training", 0.0, True),
        ("training", 0.5, True),
        ("trained", None, True),
        ("aggregating, 1 updates", None, True),
        ("proposed the new model", None, True),
        ("committed", None, False),
        ("paused: no quorum", None, False),
        ("complete", None, False),
        ("ended (0)", None, False),
    ]
    assert story.views["ben"].doing == "starting"


def test_labels_are_drawn_by_how_often_they_occur() -> None:
    assert shape_of((0, 1, 50, 100)) == " ▁▄█"
    assert shape_of((7,)) == "█"
    assert shape_of(()) == ""


def test_a_nodes_data_are_told_with_their_shape() -> None:
    [(_, text)] = take(Story(NAMES), "ada", events.DataShown(0, 3, part_of((10, 0, 5))))
    assert text == "ada holds 15 examples, by class |█ ▄|"


def test_a_node_that_is_started_again_is_as_new() -> None:
    story = Story(NAMES)
    take(story, "ben", events.Started("ben", "b" * 52, "demo", "127.0.0.1:5", "/data", 0.1))
    take(story, "ben", events.RunEnded(digest("run"), 1, digest("model"), {"accuracy": 0.9, "loss": 0.1}))
    story.forget("ben")
    assert (story.views["ben"].doing, story.complete, story.addresses) == ("starting", set(), {})


def settled(round_: int, reports: int) -> events.EvaluationFinished:
    return msgspec.structs.replace(evaluated(round_, reports), committed=True, is_news=False)


def test_what_is_committed_as_all_reported_it_is_told_once() -> None:
    story = Story(NAMES)
    assert len(told_by_all(story, evaluated(1, 3))) == 1
    assert told_by_all(story, settled(1, 3)) == []
    assert told_by_all(story, evaluated(1, 3)) == []


def test_another_accuracy_than_was_reported_is_told_once_as_the_committed_one() -> None:
    story = Story(NAMES)
    told_by_all(story, evaluated(1, 3))
    assert told_by_all(story, settled(1, 2)) == [
        (
            "◎",
            "round 1: accuracy 0.7000, loss 0.2500 on 240 samples, committed for 2 of 3 members; "
            "0.8000 was reported",
        )
    ]
    told_by_all(story, evaluated(1, 3))
    assert (story.value, story.is_provisional) == (0.7, False), "a committed accuracy never changes"


def test_rounds_of_an_extended_run_are_told_and_counted_as_rounds_of_training() -> None:
    story = Story(NAMES)
    (line,) = [one for name in NAMES for one in take(story, name, events.Elected(12, 1, "ada", "a", 2), 11)]
    assert line[1].startswith("round 11: ada")
    told_by_all(story, committed(12, trained=11, rounds=20))
    assert story.round == 11


def test_what_one_node_missed_is_not_told_as_a_round_decided_now() -> None:
    story = Story(NAMES)
    assert take(story, "ben", committed(1, is_late=True)) == []
    (line,) = take(story, "ben", events.CaughtUp(1, 4, 10, "ada"))
    assert line[1] == "ben: caught up with rounds 1 to 4 of 10, from ada"
