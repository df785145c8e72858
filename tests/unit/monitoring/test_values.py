from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl import events
from p2pfl.events import AnyEvent, Published
from p2pfl.monitoring.values import MAX_METRICS, MAX_PEERS, OTHERS, NodeValues, RoundHistogram, label
from tests.support.any_events import FLOATS, any_event
from tests.support.monitored import (
    JOINED,
    READY,
    RUN,
    RUNNING,
    STARTED,
    committed,
    evaluated,
    folded,
    linked,
)
from tests.support.records import node


def status(name: str, run: str) -> events.PeerStatus:
    return events.PeerStatus(node(name), name, run, 1, True, "idle", 0.0, 0.0, 2, True, False)


def test_a_node_starts_waits_runs_and_ends() -> None:
    waiting = events.Waiting(1, 3, "1 of 3 nodes are here")
    happened: list[AnyEvent] = [STARTED, waiting, JOINED, events.Ended(0, "complete")]
    phases = [folded(*happened[:count]).phase for count in range(1, 5)]
    assert phases == ["starting", "waiting", "running", "ended"]
    assert folded(*RUNNING, waiting).phase == "running", "it waits for the next round, not for a run"
    assert folded(STARTED, waiting, JOINED).waiting is None


def test_a_run_is_paused_resumed_finished_and_extended() -> None:
    paused = msgspec.structs.replace(committed(3), then="pause")
    ended = events.RunEnded(RUN, 10, "cd" * 32, {"accuracy": 0.9})
    started = events.TrainingStarted(4, 0)
    assert folded(*RUNNING, paused).phase == "paused"
    assert folded(*RUNNING, paused, events.Resumed(3, "ben")).phase == "running"
    assert folded(*RUNNING, paused, started).phase == "running"
    values = folded(*RUNNING, committed(10), ended)
    assert (values.phase, values.metrics, values.metrics_round) == ("finished", {"accuracy": 0.9}, 10)
    extended = folded(*RUNNING, committed(10), ended, events.RunExtended(20, "ben"))
    assert (extended.phase, extended.rounds) == ("running", 20)
    assert folded(STARTED, msgspec.structs.replace(JOINED, how="finished")).phase == "finished"


def test_members_are_reachable_while_linked_and_in_the_run() -> None:
    assert (folded(*RUNNING).reachable, folded(*RUNNING).needed) == (3, 2)
    lost = events.PeerLost(node("cleo"), "cleo", "closed")
    assert folded(*RUNNING, lost).reachable == 2
    assert folded(*RUNNING, lost).linked == 1
    assert folded(*RUNNING, status("ben", "another run")).reachable == 2
    assert folded(*RUNNING, status("ben", "another run"), linked("ben")).reachable == 3
    assert folded(STARTED, READY, linked("ben")).reachable == 0, "there is no run"


def test_a_quorum_is_held_while_enough_are_reachable_and_the_protocol_agrees() -> None:
    lost = events.QuorumLost(1, 1, 3, 2)
    gone = [events.PeerLost(node(name), name, "closed") for name in ("ben", "cleo")]
    assert folded(*RUNNING).has_quorum
    assert not folded(*RUNNING, *gone).has_quorum
    assert not folded(*RUNNING, lost).has_quorum
    assert folded(*RUNNING, lost, events.QuorumBack(1, 3, 3)).has_quorum
    assert folded(*RUNNING, lost, committed(1)).has_quorum
    assert not folded(STARTED).has_quorum


def test_only_committed_evaluations_are_shown_the_primary_one_first() -> None:
    values = folded(*RUNNING, evaluated(2, loss=0.4, accuracy=0.8))
    assert list(values.metrics.items()) == [("accuracy", 0.8), ("loss", 0.4)]
    assert values.metrics_round == 2
    values = folded(*RUNNING, evaluated(2, accuracy=0.8), evaluated(3, is_committed=False, accuracy=0.9))
    assert (values.metrics, values.metrics_round) == ({"accuracy": 0.8}, 2)


def test_another_run_has_its_own_evaluations() -> None:
    other = msgspec.structs.replace(JOINED, run="cd" * 32)
    assert folded(*RUNNING, evaluated(2, accuracy=0.8), other).metrics == {}
    assert folded(*RUNNING, evaluated(2, accuracy=0.8), JOINED).metrics == {"accuracy": 0.8}


def test_the_number_of_metrics_is_bounded_and_the_primary_one_is_kept() -> None:
    many = {f"m{number}": 1.0 for number in range(2 * MAX_METRICS)}
    evaluation = msgspec.structs.replace(evaluated(1), metrics=many | {"accuracy": 0.5})
    values = folded(*RUNNING, evaluation)
    assert len(values.metrics) == MAX_METRICS
    assert values.metrics["accuracy"] == 0.5


def test_rounds_are_counted_with_their_updates_durations_and_attempts() -> None:
    values = folded(*RUNNING, committed(1, "cleo", seconds=0.2), committed(2, "cleo", seconds=700, attempt=3))
    assert (values.round, values.rounds, values.committed) == (2, 10, 2)
    assert (values.counted, values.left_out) == (4, {"cleo": 2})
    assert (values.last_attempts, values.last_round_at) == (3, 1000.0)
    assert values.round_seconds.sum == pytest.approx(700.2)


def test_a_round_that_was_missed_has_no_duration() -> None:
    late = msgspec.structs.replace(committed(1), is_late=True, seconds=0.0)
    values = folded(*RUNNING, late)
    assert (values.round, values.committed, values.last_round_at) == (1, 1, None)
    assert values.round_seconds.cumulative()[-1] == 0


def test_a_closing_evaluation_is_no_training_round() -> None:
    closing = msgspec.structs.replace(committed(11), kind="evaluate", trained=10)
    values = folded(*RUNNING, committed(10), closing)
    assert (values.round, values.committed) == (10, 1)


def test_elections_are_counted() -> None:
    values = folded(
        *RUNNING,
        events.ElectionStarted(1, 1, "first"),
        events.SteppedDown(1, 1, "ada", "refused"),
        events.Elected(1, 2, "ben", node("ben"), 0),
    )
    assert (values.elections, values.step_downs, values.aggregators) == (1, 1, 1)


def test_a_worker_that_failed_is_ready_again_with_its_next_work() -> None:
    failed = events.WorkerFailed("it was killed")
    trained = events.TrainingFinished(1, "cd" * 32, 10, 5, 0.5, 0.1)
    values = folded(*RUNNING, failed)
    assert (values.worker, values.worker_failures, values.worker_reason) == ("failed", 1, "it was killed")
    assert folded(*RUNNING, failed, trained).worker == "ready"
    assert folded(*RUNNING, failed, events.ProgressMade(1, "train", 1, 9)).worker == "ready"
    assert folded(*RUNNING, failed, events.ProgressMade(1, "pull", 1, 9)).worker == "failed"


def test_measurements_belong_to_the_peers_that_are_known() -> None:
    links = (events.LinkMeasure(node("ben"), 0.01, 5, 6), events.LinkMeasure(node("eve"), 0.01, 7, 8))
    values = folded(*RUNNING, events.Measured(0.5, 12345, links))
    assert values.memory == 12345
    ben = values.peers[node("ben")]
    assert (ben.rtt, ben.sent, ben.received) == (0.01, 5, 6)
    assert node("eve") not in values.peers


def test_nodes_that_come_and_go_are_forgotten_the_linked_ones_last() -> None:
    values = folded(*RUNNING)
    for number in range(2 * MAX_PEERS):
        name = f"n{number}"
        values.take(Published(9, 0.0, events.PeerLinked(name, name, "x:1")))
        values.take(Published(9, 0.0, events.PeerLost(name, name, "closed")))
    assert len(values.peers) == MAX_PEERS
    assert {node("ben"), node("cleo")} <= values.peers.keys()


def test_members_that_are_left_out_are_bounded() -> None:
    values = folded(*RUNNING)
    for number in range(MAX_PEERS + 5):
        one = msgspec.structs.replace(committed(1), left_out=((f"n{number}", "late"),))
        values.take(Published(9, 0.0, one))
    assert len(values.left_out) == MAX_PEERS + 1
    assert values.left_out[OTHERS] == 5


def test_a_histogram_counts_up_to_and_including_each_bound() -> None:
    histogram = RoundHistogram()
    for seconds in (0.1, 0.11, 5000.0):
        histogram.add(seconds)
    counts = histogram.cumulative()
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (1, 2, 2, 3)


def test_a_label_is_one_short_line() -> None:
    assert label("a\nb" + "c" * 100) == "a?b" + "c" * 60 + "…"


@given(st.lists(st.tuples(FLOATS, any_event), max_size=40))
def test_any_events_in_any_order_give_sane_values(happened: list[tuple[float, AnyEvent]]) -> None:
    values = NodeValues()
    for time, event in happened:
        values.take(Published(1, time, event, getattr(event, "round", None)))
    assert 0 <= values.reachable <= len(values.members)
    assert values.round_seconds.cumulative()[-1] <= values.committed
    assert len(values.metrics) <= MAX_METRICS
