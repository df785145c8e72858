from __future__ import annotations

import pytest
from msgspec.structs import replace

from p2pfl import events
from p2pfl.events import Committed, CountedUpdate, Published, RoundRow
from p2pfl.messages import NOT_REACHABLE
from p2pfl.observe import marks as module
from p2pfl.observe.marks import Marks
from p2pfl.observe.state import State
from tests.support import recordings
from tests.support.recordings import ME, node_id_of, rows_of, state_of

ADA, BOB, CAS = "ada", "bob", "cas"
ROW = rows_of(recordings.running(3, 3))[0]


def row(*counted: str, members: tuple[str, ...] = (ADA, BOB, CAS), **changes: object) -> RoundRow:
    updates = tuple(CountedUpdate(name, 1, 1, 0.5, 1.0) for name in counted)
    return replace(ROW, updates=updates, members=members, **changes)


def commit(number: int, *members: str) -> Committed:
    """Round *number*, after which *members* are the roster."""
    return Committed(
        "run", number, "train", 1, ADA, "model", "record", members, (), (), number, 100, "go", "", 1.0
    )


def told(marks: Marks) -> list[tuple[str, int, str]]:
    return [(mark.kind, mark.round, mark.name) for mark in marks]


def test_a_member_that_was_not_reachable_is_lost_once_and_joins_with_its_next_update() -> None:
    marks = Marks()
    absent = ((BOB, "it was not reachable"), (CAS, "its update came too late"))
    for number in (1, 2):
        marks.decided(row(ADA, left_out=absent), number, None)
    marks.decided(row(ADA, BOB), 3, 7.0)
    assert told(marks) == [("loss", 1, BOB), ("join", 3, BOB)]
    assert [mark.time for mark in marks] == [None, 7.0]


def test_a_change_of_the_roster_is_a_join_or_a_loss() -> None:
    live, late = Marks((ADA, BOB)), Marks()
    for number, members in ((1, (ADA, BOB)), (2, (ADA, BOB, CAS)), (3, (ADA, CAS)), (4, (ADA, BOB, CAS))):
        live.decided(commit(number, *members), number, 1.0)
    expected = [("join", 2, CAS), ("loss", 3, BOB), ("join", 4, BOB)]
    assert told(live) == expected
    for number, voters in ((1, (ADA, BOB)), (2, (ADA, BOB)), (3, (ADA, BOB, CAS)), (4, (ADA, CAS))):
        late.decided(row(members=voters), number, None)
    assert told(late) == expected[:2], "a row has the voters of its round"
    late.decided(commit(4, ADA, BOB, CAS), 4, 2.0)
    late.decided(commit(3, ADA, CAS), 3, 1.0)
    assert told(late) == expected


@pytest.mark.parametrize(
    "reason", ["it claims 700 samples, and its data card stated 600", "it is not from a member of the roster"]
)
def test_a_member_whose_update_was_refused_was_not_absent(reason: str) -> None:
    marks = Marks()
    marks.decided(row(ADA, left_out=((BOB, reason),)), 1, None)
    assert not len(marks)


def test_who_left_the_roster_long_ago_is_not_lost_again_for_an_observer_who_comes_late() -> None:
    joined = next(one for one in recordings.running(3, 3) if isinstance(one.event, events.RunJoined))
    assert isinstance(joined.event, events.RunJoined)
    everybody = joined.event.members
    *rest, gone = everybody
    state = State()
    for number, voters in enumerate((everybody, everybody, everybody, tuple(rest)), 1):
        absent = ((gone, NOT_REACHABLE),) if number == 3 else ()
        state.apply(row(members=voters, round=number, trained=number, left_out=absent))
    state.apply(joined)
    state.apply(Published(joined.seq + 1, joined.time, events.PeerLost(node_id_of(gone), gone, "gone")))
    assert told(state.marks) == [("loss", 3, gone)]


def test_who_was_seen_to_be_lost_returns_with_a_link_and_not_with_an_update_that_came_before() -> None:
    marks = Marks((ADA, BOB, CAS))
    marks.linked(BOB, 1, 0.0)
    marks.lost(BOB, 1, 1.0)
    marks.decided(row(ADA, BOB), 1, 2.0)
    marks.decided(row(ADA, left_out=((BOB, "it was not reachable"),)), 2, 3.0)
    assert told(marks) == [("loss", 1, BOB)]
    marks.linked(BOB, 3, 4.0)
    marks.lost(BOB, 4, 5.0)
    marks.forget_links()
    marks.linked(BOB, 5, 6.0)
    assert told(marks) == [("loss", 1, BOB), ("join", 3, BOB), ("loss", 4, BOB)]


def test_a_lost_member_that_leaves_the_roster_is_no_second_loss_and_may_join_again() -> None:
    marks = Marks((ADA, BOB))
    marks.lost(BOB, 1, 1.0)
    marks.decided(commit(2, ADA), 2, 2.0)
    marks.linked(BOB, 3, 3.0)
    marks.decided(commit(3, ADA, BOB), 3, 3.0)
    assert told(marks) == [("loss", 1, BOB), ("join", 3, BOB)]


def test_a_second_election_and_a_pause_are_marked_and_rounds_told_twice_are_not() -> None:
    marks = Marks((ADA, BOB, CAS))
    last = row(attempt=2, aggregator=CAS, then="pause")
    for number in (1, 1):
        marks.decided(last, number, None)
    marks.note("election", 1, CAS, 3.0)
    assert told(marks) == [("election", 1, CAS), ("pause", 1, "")]
    assert next(iter(marks)).time is None, "the first one told stays"


def test_only_the_latest_marks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MARKS", 3)
    marks = Marks()
    for number in range(5):
        marks.note("pause", number, "", None)
    assert [mark.round for mark in marks] == [2, 3, 4]
    assert len(marks) == 3


def test_a_run_in_which_much_happens_has_its_marks_also_for_who_comes_late() -> None:
    recording = recordings.eventful()
    early = state_of(recording)
    assert told(early.marks) == [
        ("loss", 9, "attic-nuc"),
        ("join", 15, "attic-nuc"),
        ("election", 21, "roof-jetson"),
        ("pause", 26, ""),
        ("resume", 27, ""),
        ("loss", 33, "attic-nuc"),
    ]
    assert all(mark.time is not None for mark in early.marks)
    late = State()
    for row_ in rows_of(recording):
        late.apply(row_)
    assert told(late.marks) == [
        ("loss", 9, "attic-nuc"), ("join", 15, "attic-nuc"), ("election", 21, "roof-jetson"), ("pause", 26, ""),
    ]  # fmt: skip
    committed = [item for item in recording if isinstance(item.event, Committed)]
    for item in committed:
        late.apply(item)
    assert len(late.marks) == 4, "the rounds are known"


def test_a_lost_quorum_is_marked_and_the_end_of_a_run_loses_nobody() -> None:
    state = state_of(recordings.no_quorum())
    assert told(state.marks)[-1] == ("pause", 8, "no quorum")
    assert len(state.marks) == 4
    state.apply(Published(10**6, state.time, events.QuorumBack(8, 5, 5)))
    assert told(state.marks)[-1] == ("resume", 8, "")
    ended = state_of(recordings.ended())
    before, version = len(ended.marks), ended.versions["rounds"]
    ended.apply(Published(10**6, 0.0, events.PeerLost(node_id_of("attic-nuc"), "attic-nuc", "it has ended")))
    assert (len(ended.marks), ended.versions["rounds"]) == (before, version)


def test_links_before_a_run_and_of_others_than_its_members_are_no_marks() -> None:
    assert not len(state_of(recordings.checklist()).marks)
    state = state_of(recordings.running(3, 3, ME))
    before = len(state.marks)
    for event in (events.PeerLinked("n", "guest", "h:1"), events.PeerLost("n", "guest", "gone")):
        state.apply(Published(10**6, state.time, event))
    assert len(state.marks) == before
