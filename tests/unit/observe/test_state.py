from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pfl import events
from p2pfl.events import AnyEvent, Published, RoundRow
from p2pfl.observe import state as module
from p2pfl.observe.peers import MAX_TRANSFERS
from p2pfl.observe.rounds import MAX_MOVED, MAX_ROUNDS
from p2pfl.observe.state import MAX_PEERS, State
from p2pfl.spec import RunSpec
from p2pfl.statements import REVOKED
from tests.support import recordings
from tests.support.any_events import any_item
from tests.support.recordings import ME, NAMES, node_id_of, rows_of, state_of

ALL = (
    recordings.waiting, recordings.starting, recordings.running, recordings.no_quorum, recordings.paused,
    recordings.finished, recordings.ended, recordings.hostile,
)  # fmt: skip


def tell(state: State, *told: AnyEvent, time: float = 0.0) -> None:
    for event in told:
        state.apply(Published(state.seq + 1, time or state.time, event))


def spoken(recording: list[Published]) -> list[str]:
    """What everybody does at the end of *recording*, by the order of names in it."""
    state = state_of(recording)
    return [state.activity(peer).kind for peer in state.peers.values()]


@pytest.mark.parametrize(
    ("recording", "phase"),
    [
        (recordings.starting, "starting"),
        (recordings.waiting, "waiting"),
        (recordings.running, "running"),
        (recordings.no_quorum, "no quorum"),
        (recordings.paused, "paused"),
        (recordings.finished, "complete"),
        (recordings.ended, "complete"),
    ],
)
def test_phase_is_what_the_node_told_last(recording: Callable[[], list[Published]], phase: str) -> None:
    assert state_of(recording()).phase == phase


def test_a_node_that_ends_before_its_run_has_ended() -> None:
    state = state_of(recordings.running())
    state.apply(Published(10**6, state.time, events.Ended(7, "the disk is full")))
    assert state.phase == "ended"


@pytest.mark.parametrize("recording", ALL)
def test_folding_is_deterministic(recording: Callable[[], list[Published]]) -> None:
    first, second = state_of(recording()), state_of(recording())
    assert list(first.log) == list(second.log)
    assert first.peers == second.peers
    assert list(first.rounds) == list(second.rounds)


def test_a_run_in_the_middle_of_a_round_is_all_there() -> None:
    state = state_of(recordings.running())
    assert (state.name, state.trained, state.target_rounds) == (ME, 41, 100)
    assert state.open is not None
    assert (state.open.round, state.open.aggregator) == (42, "macbook-1")
    assert state.open.trained == {ME, "west-thinkpad", "roof-jetson"}
    assert state.me is not None
    assert state.me.is_me
    assert state.rounds.numbers() == list(range(1, 42))
    assert state.tolerates() == 1, "of the five that are here, four are needed"


def test_everybody_is_seen_doing_something_else() -> None:
    state = state_of(recordings.running())
    words = {name: state.activity(state.peers[name]).kind for name in NAMES}
    assert words == {
        "macbook-1": "collect",
        ME: "sending",
        "shelf-pi5": "train",
        "west-thinkpad": "trained",
        "roof-jetson": "trained",
        "attic-nuc": "lost",
    }


def test_an_aggregator_sees_whose_updates_it_counted() -> None:
    state = state_of(recordings.running(me="macbook-1"))
    words = {name: state.activity(state.peers[name]) for name in NAMES}
    assert (words["macbook-1"].kind, words["macbook-1"].detail) == ("collect", "2")
    assert words["west-thinkpad"].kind == "merged"
    assert words[ME].kind == "sending"
    assert words[ME].progress == pytest.approx(0.62)


def test_a_late_observer_knows_the_same_rounds_from_the_history() -> None:
    recording = recordings.running()
    late = state_of([*rows_of(recording), *recording[:10]])
    early = state_of(recording)
    assert late.rounds.numbers() == early.rounds.numbers()
    assert [one.metrics.get("accuracy") for one in late.rounds] == [
        one.metrics.get("accuracy") for one in early.rounds
    ]
    assert late.trained == 41
    assert {name: late.peers[name].aggregated for name in NAMES} == {
        name: early.peers[name].aggregated for name in NAMES
    }


def test_rounds_told_twice_count_once() -> None:
    recording = recordings.finished()
    rows = rows_of(recording)
    once, twice = state_of([*rows, *recording]), state_of([*rows, *rows, *recording, *recording])
    assert twice.rounds.numbers() == once.rounds.numbers()
    assert {n: p.counted for n, p in twice.peers.items()} == {n: p.counted for n, p in once.peers.items()}


def test_rounds_of_a_history_are_trained_but_for_the_evaluations() -> None:
    rows = rows_of(recordings.finished())
    assert (rows[-1].kind, rows[-1].round) == ("evaluate", 21)
    assert state_of(rows).trained == 20
    prolonged = replace(rows[-2], round=22, trained=21)
    assert state_of([*rows, prolonged]).trained == 21


def test_a_run_that_was_paused_before_a_restart_is_paused() -> None:
    recording = recordings.paused()
    joined = next(item.event for item in recording if isinstance(item.event, events.RunJoined))
    state = state_of(rows_of(recording))
    tell(state, _again(joined, 12))
    phase = state.phase
    assert phase == "paused"
    tell(state, events.TrainingStarted(13, 0))
    assert state.phase == "running"


def _again(joined: events.RunJoined, round_: int) -> events.RunJoined:
    return events.RunJoined(joined.run, "resumed", round_, joined.spec, joined.members)


def test_another_run_begins_with_empty_rounds() -> None:
    state = state_of(recordings.finished())
    assert state.spec is not None
    tell(state, events.RunJoined("other", "founded", 0, state.spec, NAMES))
    assert (len(state.rounds), state.trained, state.phase) == (0, 0, "running")
    assert all(peer.aggregated == 0 for peer in state.peers.values())


def test_a_history_of_another_run_is_left_out() -> None:
    rows = rows_of(recordings.finished())
    state = state_of(recordings.hostile())
    before = state.rounds.numbers()
    for row in rows:
        state.apply(row)
    assert state.rounds.numbers() == before


def test_what_comes_late_of_a_decided_round_changes_nothing() -> None:
    state = state_of(recordings.running())
    assert state.open is not None
    tell(
        state,
        events.UpdateRefused(41, "shelf-pi5", "the round is decided"),
        events.Elected(40, 3, "attic-nuc", node_id_of("attic-nuc"), 4),
    )
    assert state.open.refused == {}
    assert state.open.aggregator == "macbook-1"


def test_who_was_lost_before_anybody_watched_is_lost_not_absent() -> None:
    state = State()
    tell(state, events.PeerLost(node_id_of("x"), "x", "silent"))
    assert state.activity(state.peers["x"]).kind == "lost"


def test_who_said_that_it_leaves_has_left_not_been_lost() -> None:
    state = state_of(recordings.running())
    node = node_id_of("roof-jetson")
    tell(state, events.PeerLeaving(node, "roof-jetson"))
    assert state.activity(state.peers["roof-jetson"]).kind == "leaving"
    tell(state, events.PeerLost(node, "roof-jetson", "closed"))
    assert state.activity(state.peers["roof-jetson"]).kind == "left"
    tell(state, events.PeerLinked(node, "roof-jetson", "h:1"))
    assert not state.peers["roof-jetson"].leaving


def test_who_is_kept_out_is_known_until_that_is_lifted() -> None:
    state, node = State(), node_id_of("x")
    tell(state, events.MemberExcluded(node, "x", "is banned by desk (operator)", is_held=True))
    assert state.excluded == {node: "x is banned by desk (operator)"}
    tell(state, events.MemberExcluded(node, "x", "is not banned any more", is_held=False))
    assert state.excluded == {}


@pytest.mark.parametrize(
    ("text", "is_held", "kind"),
    [
        ("is banned by desk: gone", True, "banned"),
        (REVOKED, True, "revoked"),
        ("was kicked by desk", False, "kicked"),
    ],
)
def test_who_is_kept_out_has_a_state_of_its_own(text: str, is_held: bool, kind: str) -> None:
    state = state_of(recordings.running())
    peer = state.peers["roof-jetson"]
    tell(state, events.MemberExcluded(peer.node, peer.name, text, is_held))
    assert (state.activity(peer).kind, state.why_out(peer)) == (kind, f"roof-jetson {text}")
    tell(state, events.PeerLost(peer.node, peer.name, "it said goodbye"))
    assert state.activity(peer).kind == kind, "and not lost"
    tell(state, events.PeerLinked(peer.node, peer.name, "h:1"))
    assert (state.why_out(peer) == "") == (kind == "kicked"), "a kicked node may come back"


def test_a_failed_candidacy_leaves_the_round_without_aggregator() -> None:
    state = state_of(recordings.running())
    tell(state, events.SteppedDown(42, 1, "macbook-1", "it cannot write"))
    assert state.open is not None
    assert (state.open.aggregator, state.open.step_downs) == ("", 1)
    tell(state, events.Elected(42, 2, ME, node_id_of(ME), 4))
    assert (state.open.aggregator, state.open.attempt) == (ME, 2)


def test_control_requests_are_forgotten_once_a_commit_fulfils_them() -> None:
    state = state_of(recordings.running())
    tell(state, events.ControlRequested("pause", "ada"))
    assert state.control_requests == {"pause": "ada"}
    assert state_of(recordings.paused()).control_requests == {}


def test_a_quorum_that_is_back_is_told() -> None:
    state = state_of(recordings.no_quorum())
    quorum = state.quorum
    assert quorum == (2, 5, 3)
    tell(state, events.QuorumBack(8, 3, 5))
    assert (state.quorum, state.phase) == (None, "running")


def test_transfers_end_when_they_are_done_or_not_heard_of() -> None:
    state = State()
    tell(state, events.ProgressMade(1, "pull", 10, 100, "a"), time=1.0)
    tell(state, events.ProgressMade(1, "pull", 60, 100, "a"), time=3.0)
    assert state.transfers["pull", "a"].rate == pytest.approx(25.0)
    tell(state, events.ProgressMade(1, "push", 1, 100, "b"), time=9.0)
    assert list(state.transfers) == [("push", "b")]
    tell(state, events.ProgressMade(1, "push", 100, 100, "b"), time=9.5)
    assert state.transfers == {}


def test_rates_come_from_two_measurements() -> None:
    state = State()
    tell(state, events.PeerLinked("node", "a", "h:1"))
    tell(state, events.Measured(0.5, 1, (events.LinkMeasure("node", 0.01, 1000, 0),)), time=10.0)
    assert state.peers["a"].up == 0.0
    tell(state, events.Measured(0.5, 1, (events.LinkMeasure("node", None, 5000, 100),)), time=12.0)
    peer = state.peers["a"]
    assert (peer.up, peer.down, peer.rtt) == (2000.0, 50.0, 0.01)


def test_a_change_raises_the_version_of_its_section_only() -> None:
    state = state_of(recordings.running())
    before = dict(state.versions)
    tell(state, events.ProgressMade(42, "push", 1, 2, "macbook-1"))
    changed = {section for section, version in state.versions.items() if version != before[section]}
    assert changed == {"traffic"}


def test_warnings_and_errors_are_known_by_their_level() -> None:
    state = state_of(recordings.hostile())
    levels = {row.kind: row.level for row in state.log}
    assert levels["update_refused"] == "warning"
    assert levels["committed"] == "good"
    assert levels["peer_linked"] == "info"


def test_it_stays_bounded_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State()
    tell(state, events.Started(ME, "me", "f", "h:1", "d", 0.1))
    for number in range(MAX_PEERS + 50):
        tell(
            state,
            events.PeerLinked(f"node {number}", f"peer {number}", "h:1"),
            events.ProgressMade(1, "pull", 1, 2, f"peer {number}"),
        )
    assert len(state.peers) == MAX_PEERS
    assert state.me is not None
    assert len(state.transfers) <= MAX_TRANSFERS


def test_a_long_run_keeps_its_first_and_last_rounds() -> None:
    state = state_of(recordings.running(peers=3, rounds=2000))
    numbers = state.rounds.numbers()
    assert len(numbers) <= MAX_ROUNDS
    assert (numbers[0], numbers[-1]) == (1, 1999)
    assert len(state.log) == module.MAX_LOG


@settings(max_examples=200, deadline=None)
@given(st.lists(any_item, max_size=40))
def test_no_sequence_of_events_breaks_it(items: list[Published | RoundRow]) -> None:
    state = State()
    for item in items:
        state.apply(item)
    for peer in state.peers.values():
        assert state.activity(peer).kind
    assert len(state.log) <= len(items)
    numbers = state.rounds.numbers()
    assert numbers == sorted(set(numbers))
    assert state.tolerates() >= 0


@settings(max_examples=50, deadline=None)
@given(st.lists(any_item, max_size=20))
def test_nonsense_after_a_run_breaks_nothing(items: list[Published | RoundRow]) -> None:
    state = state_of(recordings.paused())
    for item in items:
        state.apply(item)
    assert state.me is not None


def test_a_restart_in_a_recording_ends_links_and_keeps_rounds() -> None:
    recording = recordings.ended()
    state = state_of(recording)
    state.apply(recording[0])
    assert (state.phase, state.ended) == ("starting", None)
    assert not any(peer.linked for peer in state.peers.values())
    assert len(state.rounds) == 20


def test_who_trains_is_late_by_the_clock_of_what_the_node_tells() -> None:
    state = state_of(recordings.running())
    trains = [peer for peer in state.peers.values() if state.activity(peer).kind == "train"]
    assert trains
    tell(state, events.Notice("info", "an hour later"), time=state.time + 3600.0)
    assert {state.activity(peer).kind for peer in trains} == {"late"}


# --- a run that goes on after its end ---------------------------------------------------------------------------


def extended() -> State:
    """A finished run of 20 rounds goes on to 30: two more are decided after the closing evaluation."""
    recording = recordings.finished()
    state = state_of(recording)
    last = [item.event for item in recording if isinstance(item.event, events.Committed)][-2]
    tell(state, events.RunExtended(30, NAMES[0]))
    for index, trained in ((22, 21), (23, 22)):
        tell(state, events.TrainingStarted(index, 0), events.Elected(index, 1, NAMES[0], "id", 4))
        tell(state, replace(last, round=index, trained=trained, rounds=30, then="go"))
    return state


def test_an_extended_run_is_running_and_its_rounds_are_numbered_on() -> None:
    state = extended()
    assert (state.phase, state.trained, state.target_rounds) == ("running", 22, 30)
    assert state.rounds.numbers() == list(range(1, 23))
    assert state.open is not None
    assert (state.open.kind, state.open.round, state.open.index) == ("train", 23, 24)


def test_an_extension_is_known_before_its_first_round_is_decided() -> None:
    state = state_of(recordings.finished())
    tell(state, events.RunExtended(30, NAMES[0]))
    assert (state.phase, state.trained, state.target_rounds) == ("running", 20, 30)
    assert state.open is not None
    assert (state.open.kind, state.open.round) == ("train", 21)


def test_no_line_of_the_log_names_a_round_beyond_those_the_run_has() -> None:
    lines = [row.text for row in extended().log]
    numbers = [int(found) for line in lines for found in re.findall(r"\bround (\d+)", line)]
    assert max(numbers) == 23, "the records' own numbers go on to 24"
    assert "round 22 committed by" in lines[-1]


def test_an_evaluation_after_the_closing_one_belongs_to_its_training_round() -> None:
    state = extended()
    tell(state, events.EvaluationFinished(23, {"accuracy": 0.5, "loss": 1.0}, 100, 6, 6))
    last = state.rounds.last
    assert last is not None
    assert (last.round, last.metrics.get("accuracy"), last.is_provisional) == (22, 0.5, True)


def test_a_history_with_the_numbers_of_training_is_told_the_same_to_who_comes_late() -> None:
    rows = rows_of(recordings.finished())
    later = [replace(rows[-2], round=22, trained=21), replace(rows[-2], round=23, trained=22)]
    state = state_of([*rows, *later])
    assert (state.trained, state.rounds.numbers()) == (22, list(range(1, 23)))
    assert [state.round_of(index) for index in (20, 21, 22, 23)] == [20, 20, 21, 22]


@pytest.mark.parametrize(
    ("changes", "phase"),
    [({}, "complete"), ({"rounds": 12}, "stopped"), ({"is_trained": False}, "untrained")],
)
def test_only_a_run_that_trained_all_its_rounds_is_complete(changes: dict[str, object], phase: str) -> None:
    state = state_of(recordings.running())
    tell(
        state,
        replace(events.RunEnded(state.run, 20, "d" * 64, {"accuracy": 0.9, "loss": 0.1}, 20), **changes),
    )
    assert state.phase == phase


def test_a_finished_run_in_which_no_update_was_counted_is_no_complete_one() -> None:
    rows = [replace(row, updates=()) for row in rows_of(recordings.finished())]
    state = state_of(rows)
    spec = replace(recordings_spec(), rounds=20)
    tell(state, events.RunJoined(state.run, "finished", 21, spec, NAMES, trained=20))
    assert state.phase == "untrained"


def test_what_was_committed_does_not_change_with_what_is_reported_later() -> None:
    state = state_of(recordings.finished())
    before = [(one.metrics.get("accuracy"), one.is_provisional) for one in state.rounds]
    tell(state, events.EvaluationFinished(20, {"accuracy": 0.1, "loss": 9.0}, 10**6, 6, 6))
    assert [(one.metrics.get("accuracy"), one.is_provisional) for one in state.rounds] == before
    assert not any(is_provisional for _, is_provisional in before)


def test_fewer_members_here_tolerate_less() -> None:
    state = state_of(recordings.no_quorum())
    assert (state.reachable, state.needed, state.tolerates()) == (2, 3, 0)


def recordings_spec() -> RunSpec:
    spec = state_of(recordings.finished()).spec
    assert spec is not None
    return spec


def test_progress_of_a_training_whose_round_is_decided_is_ignored() -> None:
    state = state_of(recordings.paused())
    decided = state.rounds.last
    assert decided is not None
    tell(state, events.ProgressMade(decided.index, "train", 9, 9))
    assert state.training is None
    tell(state, events.ProgressMade(decided.index + 1, "train", 1, 9))
    assert state.training == (1, 9)


def test_the_bytes_of_an_open_round_are_kept_and_bounded() -> None:
    state = state_of(recordings.running())
    assert state.open is not None
    assert state.open.moved == {("push", "macbook-1"): int(recordings.MODEL_BYTES * 0.62)}
    tell(state, events.ProgressMade(state.open.index - 1, "pull", 5, 10, "shelf-pi5"))
    assert len(state.open.moved) == 1, "that was of another round"
    for number in range(2 * MAX_MOVED):
        tell(state, events.ProgressMade(state.open.index, "pull", 5, 10, f"node-{number}"))
    assert len(state.open.moved) == MAX_MOVED
