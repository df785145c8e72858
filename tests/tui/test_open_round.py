"""The open round says what happens now, whom it waits for, and for how long; never for one that is gone."""

from __future__ import annotations

from msgspec.structs import replace

from p2pfl import events
from p2pfl.events import Published
from p2pfl.observe.state import State
from p2pfl.strategy_specs import FedAdamSpec, FedAvgSpec
from tests.support import recordings
from tests.support.recordings import node_id_of, state_of
from tui import views
from tui.symbols import glyphs

ASCII = glyphs(ascii_only=True)


def opened(state: State, width: int = 68) -> list[str]:
    return [line.plain for line in views.open_lines(state, state.time, ASCII, width)]


def test_it_waits_for_those_who_train_and_not_for_the_dead() -> None:
    path, now, *rest = opened(state_of(recordings.running()))
    assert path == "elect + > * train 4/5 > transfer . > average . > accept ."
    assert now.startswith("Waits for shelf-pi5, about ")
    assert "attic-nuc" not in path + now
    assert rest[-1].endswith("4/5  without attic-nuc")


def test_only_those_who_are_selected_are_waited_for() -> None:
    state = state_of(recordings.running())
    assert state.open is not None
    recordings.sampled(state, "lab-desktop", "shelf-pi5", "attic-nuc")
    path, now, *rest = opened(state, 90)
    assert "* train 1/2 >" in path, "attic-nuc is gone"
    assert now.startswith("Waits for shelf-pi5, about ")
    assert rest[-1].endswith("1/2 selected  without attic-nuc")
    line = views.open_line(state, state.time, ASCII).plain
    assert " 1/2  waits for shelf-pi5" in line
    assert views.round_rows(state, ASCII)[0].cells["updates"] == "0/3"
    # An aggregator elsewhere has asked another one: it trains.
    peer = state.peers["west-thinkpad"]
    assert peer.status is not None
    peer.status = replace(peer.status, phase="training", round=state.open.index - 1)
    assert opened(state)[1].startswith("Waits for shelf-pi5, west-thinkpad")


def test_the_time_left_is_what_the_slowest_predicts() -> None:
    state = state_of(recordings.running())
    peer = state.peers["shelf-pi5"]
    assert peer.status is not None
    peer.status, peer.training_since = replace(peer.status, predicted=60.0), state.time - 20
    assert opened(state)[1] == "Waits for shelf-pi5, about 40s left"
    peer.training_since = state.time - 90
    assert opened(state)[1] == "Waits for shelf-pi5, any moment"
    peer.status = replace(peer.status, predicted=0.0)
    assert opened(state)[1] == "Waits for shelf-pi5"


def test_the_time_of_a_training_before_is_not_that_of_this_one() -> None:
    state = state_of(recordings.running())
    peer, one = state.peers["shelf-pi5"], state.open
    assert peer.status is not None
    assert one is not None
    peer.status, peer.training_since = replace(peer.status, predicted=60.0, round=one.index - 2), 0.0
    one.opened_at = state.time - 5.0
    assert opened(state)[1] == "Waits for shelf-pi5, about 55s left"
    one.opened_at = None
    assert opened(state)[1] == "Waits for shelf-pi5"


def test_an_aggregator_that_is_gone_is_not_waited_for() -> None:
    state = state_of(recordings.running())
    one = state.open
    assert one is not None
    assert "* train" in opened(state)[0]
    state.apply(Published(0, state.time, events.PeerLost(node_id_of("macbook-1"), "macbook-1", "killed")))
    for proposed_at in (None, state.time):
        one.proposed_at = proposed_at
        path, now, *_ = opened(state)
        assert "* elect" in path
        assert now == "Votes: 4 of 6 elect another aggregator"


def test_each_step_is_named() -> None:
    state = state_of(recordings.running(me="macbook-1"))
    one = state.open
    assert one is not None
    trained = events.PeerStatus(
        node_id_of("shelf-pi5"),
        "shelf-pi5",
        state.run,
        one.index - 1,
        True,
        "trained",
        1.0,
        1.0,
        4,
        True,
        False,
    )
    state.apply(Published(0, state.time, trained))
    assert "* transfer 2/5" in opened(state)[0]
    assert opened(state)[1] == "Waits for the updates of macbook-1, lab-desktop, shelf-pi5"
    for name in state.members[:-1]:
        one.counted.setdefault(name, state.time)
    assert opened(state)[1] == "Averaging, at macbook-1"
    one.proposed_at = state.time
    assert opened(state)[1] == "Votes: 4 of 6 decide"
    assert "* accept" in opened(state)[0]
    one.proposed_at, one.aggregator = None, ""
    assert "* elect" in opened(state)[0]
    assert opened(state)[1] == "Votes: 4 of 6 elect an aggregator"


def test_without_quorum_or_paused_nobody_is_waited_for_by_name() -> None:
    assert opened(state_of(recordings.no_quorum()))[1] == "Waits for 1 more member"
    paused = opened(state_of(recordings.paused()))
    assert paused[1] == "Paused"
    assert "*" not in paused[0]


def test_no_row_is_wider_than_its_panel() -> None:
    for width in (30, 44, 68, 100):
        for me in ("lab-desktop", "macbook-1"):
            rows = opened(state_of(recordings.running(me=me)), width)[3:]
            assert max(map(len, rows)) <= width


def test_the_result_names_the_strategy_of_the_run() -> None:
    state = state_of(recordings.finished())
    one = state.rounds.last
    assert one is not None
    assert state.spec is not None
    for strategy, text in (
        (FedAvgSpec(), "fedavg; "),
        (FedAdamSpec(server_lr=0.05), "fedadam (server_lr 0.05); "),
    ):
        state.spec = replace(state.spec, strategy=strategy)
        lines = [line.plain for line in views.round_lines(state, one, ASCII)]
        assert [line for line in lines if line.startswith(f"average   {text}")], lines


def test_the_result_has_the_votes_and_the_bytes_that_this_node_saw() -> None:
    state = state_of(recordings.finished())
    one = state.rounds.last
    assert one is not None
    assert one.seen is not None
    one.seen.votes = 4
    assert not [line for line in views.round_lines(state, one, ASCII) if line.plain.startswith("bytes")]
    one.seen.note_moved("push", "macbook-1", 2**20)
    one.seen.note_moved("pull", "shelf-pi5", 2**21)
    text = "\n".join(line.plain for line in views.round_lines(state, one, ASCII))
    assert "attempt 1, 4 votes" in text
    assert "bytes     sent 1.0M, received 2.0M by this node" in text
    rows = {row.name: row.note for row in views.round_gantt(state, one)[0]}
    assert rows["shelf-pi5"].endswith(" 2.0M")
    assert rows["lab-desktop"].endswith(" 1.0M")
    assert "M" not in rows["roof-jetson"]


def test_who_has_the_model_is_told_while_the_run_goes_on_and_not_of_nodes_that_have_ended() -> None:
    told = []
    for recording in (recordings.running(), recordings.finished()):
        state = state_of(recording)
        one = state.rounds.last
        assert one is not None
        told += [
            line.plain for line in views.round_lines(state, one, ASCII) if line.plain.startswith("model")
        ]
    assert ["same model on" in line for line in told] == [True, False]
