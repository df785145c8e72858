from __future__ import annotations

from typing import Any

import pytest

from p2pfl.events import LinkMeasure, PeerStatus
from p2pfl.observe.peers import MAX_RTTS, Peer, Transfer, activity_of
from p2pfl.observe.rounds import OpenRound


def status(phase: Any = "idle", **fields: Any) -> PeerStatus:
    values = {
        "run": "r", "round": 3, "holds": True, "progress": 0.4, "predicted": 10.0, "links": 2,
        "is_member": True, "ended": False, **fields,
    }  # fmt: skip
    return PeerStatus("node", "ada", phase=phase, **values)


def peer(phase: Any = "idle", **fields: Any) -> Peer:
    made = Peer("ada", "node", linked=True, since=0.0, is_member=True)
    made.take_status(status(phase, **fields), 100.0)
    return made


def word(one: Peer, open_: OpenRound | None = None, *, is_paused: bool = False, now: float = 101.0) -> str:
    return activity_of(one, open_, is_paused=is_paused, now=now).kind


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("starting", "starting"),
        ("idle", "waiting"),
        ("training", "train"),
        ("trained", "trained"),
        ("aggregating", "elected"),
        ("leaving", "leaving"),
    ],
)
def test_every_phase_a_node_tells_has_a_word(phase: str, expected: str) -> None:
    assert word(peer(phase), OpenRound(4, 4)) == expected


def test_who_never_had_a_link_is_absent() -> None:
    assert word(Peer("ada")) == "absent"


def test_who_lost_its_link_is_lost_and_who_said_goodbye_has_left() -> None:
    one = Peer("ada", since=1.0)
    assert word(one) == "lost"
    one.leaving = True
    assert word(one) == "left"


def test_who_follows_without_a_vote_is_a_learner() -> None:
    assert word(peer("training", is_member=False)) == "learner"


def test_who_is_in_no_run_waits() -> None:
    assert word(peer("idle", run="", is_member=False)) == "waiting"


def test_who_has_the_final_model_is_done() -> None:
    assert word(peer("idle", ended=True)) == "done"


def test_a_pause_shows_on_who_would_do_something() -> None:
    assert word(peer("trained"), OpenRound(4, 4), is_paused=True) == "paused"


def test_training_much_longer_than_predicted_is_late() -> None:
    one = peer("training", predicted=10.0)
    assert word(one, now=115.9) == "train"
    assert word(one, now=116.1) == "late"


def test_training_without_a_prediction_is_never_late() -> None:
    assert word(peer("training", predicted=0.0), now=1e6) == "train"


def test_a_new_training_is_not_measured_from_an_earlier_one() -> None:
    one = peer("training")
    one.take_status(status("trained"), 110.0)
    one.take_status(status("training"), 200.0)
    assert word(one, now=201.0) == "train"


def test_a_counted_update_is_merged_and_a_refused_one_refused() -> None:
    one = peer("trained")
    assert word(one, OpenRound(4, 4, counted={"ada": 1.0})) == "merged"
    assert word(one, OpenRound(4, 4, refused={"ada": "not finite"})) == "refused"


def test_an_aggregator_collects_and_then_proposes() -> None:
    one = peer("aggregating")
    assert word(one, OpenRound(4, 4, aggregator="ada")) == "elected"
    assert activity_of(
        one, OpenRound(4, 4, aggregator="ada", counted={"bob": 1.0}), is_paused=False, now=101.0
    ) == (
        "collect",
        None,
        "1",
    )
    assert word(one, OpenRound(4, 4, aggregator="ada", trained={"bob"})) == "collect"
    assert word(one, OpenRound(4, 4, aggregator="ada", proposed_at=3.0)) == "propose"


def test_a_transfer_shows_how_far_it_is() -> None:
    moving = Transfer("pull", "ada", 25, 100, began_at=0.0, at=1.0)
    assert activity_of(peer("trained"), None, is_paused=False, now=101.0, transfer=moving) == (
        "sending",
        0.25,
        "",
    )


def test_a_rate_counts_from_where_a_transfer_was_first_heard_of() -> None:
    assert Transfer("pull", "ada", 70, 100, began_at=2.0, at=4.0, began_with=50).rate == 10.0
    assert Transfer("pull", "ada", 70, 100, began_at=2.0, at=2.0, began_with=50).rate == 0.0


def test_a_link_made_anew_has_no_negative_rate() -> None:
    one = Peer("ada")
    one.take_traffic(LinkMeasure("node", 0.1, 5000, 5000), 1.0)
    one.take_traffic(LinkMeasure("node", 0.1, 10, 10), 1.0)
    assert (one.up, one.down, one.sent) == (0.0, 0.0, 10)


def test_round_trip_times_are_bounded() -> None:
    one = Peer("ada")
    for number in range(MAX_RTTS + 5):
        one.take_traffic(LinkMeasure("node", float(number), 0, 0), 1.0)
    assert len(one.rtts) == MAX_RTTS
    assert one.rtt == MAX_RTTS + 4
