"""A newcomer is told what still matters, each event once and in order, however long the node runs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from p2pfl import events
from p2pfl.events import AnyEvent, Published
from p2pfl.runtime.observing.compaction import COMMITS, MAX_OF_ROUND, TAIL, CompactedEvents
from tests.support.records import SPEC

RUN = "1" * 64
JOINED = events.RunJoined(RUN, "founded", 0, SPEC, ("ada", "ben"))
COMMITTED = events.Committed(
    RUN, 1, "train", 1, "ada", "2" * 64, "3" * 64, ("ada", "ben"), (), (), 1, 10, "go", "", 1.5
)
STATUS = events.PeerStatus("b" * 52, "ben", RUN, 1, True, "training", 0.5, 2.0, 1, True, False)
DEVICE_INFO = events.PeerDeviceInfo("b" * 52, "ben", "0.1", "Linux", 4, 10**9, "cpu", None)
LINKED = events.PeerLinked("b" * 52, "ben", "h:1")
LOST = events.PeerLost("b" * 52, "ben", "it broke")
COUNTED = events.UpdateCounted(1, "ben", 100)
MEASURED = events.Measured(0.5, 10**8, ())


def commit(round_: int, then: str = "go") -> events.Committed:
    return msgspec.structs.replace(COMMITTED, round=round_, then=then)


def kept(*told: events.AnyEvent) -> CompactedEvents:
    compacted = CompactedEvents()
    take(compacted, told)
    return compacted


def take(compacted: CompactedEvents, told: Iterable[events.AnyEvent], first: int = 1) -> None:
    for number, event in enumerate(told, first):
        compacted.take(Published(number, float(number), event))


def past_the_tail(*told: events.AnyEvent) -> list[events.AnyEvent]:
    """What is left of *told* for its own sake, once the log has scrolled past it."""
    compacted = kept(*told)
    filler = [events.Notice("info", str(number)) for number in range(TAIL)]
    take(compacted, filler, len(told) + 1)
    return [one.event for one in compacted.kept() if one.seq <= len(told)]


def test_what_is_told_is_in_order_and_each_event_once() -> None:
    compacted = kept(JOINED, LINKED, STATUS, COUNTED, commit(1), LOST, STATUS)
    assert [one.seq for one in compacted.kept()] == [1, 2, 4, 5, 6, 7], "3 is void: 7 says more"


@pytest.mark.parametrize(
    ("early", "late"),
    [
        (LINKED, LOST),
        (LOST, LINKED),
        (STATUS, msgspec.structs.replace(STATUS, progress=0.7)),
        (DEVICE_INFO, msgspec.structs.replace(DEVICE_INFO, device="cuda")),
        (MEASURED, msgspec.structs.replace(MEASURED, cpu=0.7)),
        (events.ProgressMade(1, "pull", 1, 9, "ben"), events.ProgressMade(1, "pull", 9, 9, "ben")),
        (events.QuorumLost(2, 1, 3, 2), events.QuorumBack(2, 2, 3)),
        (events.Waiting(1, 3, "two are missing"), events.Waiting(2, 3, "one is missing")),
        (events.WorkerReady("digits", "cpu", 1, 1, 1.0), events.WorkerReady("digits", "cpu", 2, 1, 1.0)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_of_the_same_thing_only_the_last_word_is_kept(early: AnyEvent, late: AnyEvent) -> None:
    assert past_the_tail(early, late) == [late]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (STATUS, msgspec.structs.replace(STATUS, node="c" * 52)),
        (LINKED, msgspec.structs.replace(LINKED, node="c" * 52)),
        (STATUS, DEVICE_INFO),
        (events.ProgressMade(1, "pull", 1, 9, "ben"), events.ProgressMade(1, "pull", 1, 9, "cleo")),
        (events.ProgressMade(1, "pull", 1, 9, "ben"), events.ProgressMade(1, "push", 1, 9, "ben")),
        (events.ControlRequested("pause", "eve"), events.ControlRequested("end", "eve")),
    ],
)
def test_different_things_are_kept_beside_each_other(one: AnyEvent, other: AnyEvent) -> None:
    assert past_the_tail(one, other) == [one, other]


def test_the_open_round_is_kept_whole_and_forgotten_with_its_commit() -> None:
    trained = events.TrainingFinished(1, "4" * 64, 100, 7, 0.5, 1.5)
    assert past_the_tail(JOINED, COUNTED, trained) == [JOINED, COUNTED, trained]
    assert past_the_tail(JOINED, COUNTED, trained, commit(1)) == [JOINED, commit(1)]


def test_transfers_and_training_of_a_round_end_with_it() -> None:
    progress = events.ProgressMade(1, "train", 3, 9)
    assert past_the_tail(progress) == [progress]
    assert past_the_tail(progress, commit(1)) == [commit(1)]


def test_a_control_request_is_forgotten_by_the_commit_that_fulfils_it_and_no_other() -> None:
    wanted = events.ControlRequested("pause", "eve")
    assert past_the_tail(wanted, commit(1)) == [wanted, commit(1)]
    assert past_the_tail(wanted, commit(1, "pause")) == [commit(1, "pause")]


def test_that_a_run_was_resumed_matters_until_the_next_commit() -> None:
    resumed = events.Resumed(1, "eve")
    assert past_the_tail(commit(1, "pause"), resumed) == [commit(1, "pause"), resumed]
    assert past_the_tail(commit(1, "pause"), resumed, commit(2)) == [commit(1, "pause"), commit(2)]


def test_another_run_makes_the_state_of_the_last_one_void() -> None:
    other = msgspec.structs.replace(JOINED, run="9" * 64, how="continued")
    old = (
        events.QuorumLost(2, 1, 3, 2),
        events.ControlRequested("end", "eve"),
        events.RunEnded(RUN, 1, "", {}),
    )
    compacted = kept(JOINED, *old, other)
    assert compacted.run == "9" * 64
    assert past_the_tail(JOINED, *old, other) == [other]


def test_the_run_a_node_is_in_is_the_last_it_joined() -> None:
    assert CompactedEvents().run == ""
    assert kept(JOINED).run == RUN


def test_of_the_log_the_end_is_kept() -> None:
    compacted = kept(*(events.Notice("info", str(number)) for number in range(TAIL + 5)))
    last = [events.Notice("info", str(number)) for number in range(5, TAIL + 5)]
    assert [one.event for one in compacted.kept()] == last


def test_what_changes_all_the_time_takes_no_room_in_the_log() -> None:
    often: list[AnyEvent] = [MEASURED, STATUS]
    compacted = kept(events.Notice("info", "rare"), *often * TAIL)
    assert [one.seq for one in compacted.kept()] == [1, 2 * TAIL, 2 * TAIL + 1]


def test_strangers_who_are_refused_take_no_room_from_the_open_round() -> None:
    refused = [events.PeerRefused(f"h:{number}", "no") for number in range(MAX_OF_ROUND + TAIL)]
    compacted = kept(JOINED, COUNTED, *refused)
    told = [one.event for one in compacted.kept()]
    assert told[:2] == [JOINED, COUNTED]
    assert len(told) == 2 + TAIL


def test_it_stays_bounded_however_much_happens() -> None:
    compacted = CompactedEvents()
    number = 0
    for round_ in range(1, 3 * COMMITS):
        told: list[AnyEvent] = [commit(round_), STATUS, MEASURED]
        told += [events.RosterChanged(round_, ("eve",), (), 3, 1)]
        told += [events.UpdateRefused(round_ + 1, "eve", "no")] * 100
        take(compacted, told, number + 1)
        number += len(told)
    for _ in range(2):
        take(compacted, [COUNTED] * MAX_OF_ROUND, number + 1)
        number += MAX_OF_ROUND
    assert len(compacted.kept()) <= MAX_OF_ROUND + COMMITS + TAIL + 10


ENDED = events.RunEnded(RUN, 10, "2" * 64, {"accuracy": 0.9, "loss": 0.1}, 10)


def test_the_end_of_a_run_that_goes_on_is_void() -> None:
    extended = events.RunExtended(20, "ben")
    assert past_the_tail(JOINED, commit(11, "end"), ENDED, extended)[-1] == extended
    assert ENDED not in past_the_tail(JOINED, commit(11, "end"), ENDED, extended)
    assert ENDED not in past_the_tail(JOINED, commit(11, "end"), ENDED, commit(12))
    assert extended not in past_the_tail(JOINED, extended, commit(12))
    assert ENDED in past_the_tail(JOINED, commit(11, "end"), ENDED)
