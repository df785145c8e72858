"""What `p2pfl status` shows, for scripts and for people."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from p2pfl import events
from p2pfl.events import AddressState, Published
from p2pfl.observe.client import Observer
from p2pfl.observe.snapshot import WIDTH, lines_of, snapshot_of, take_snapshot
from p2pfl.spec import with_options
from tests.support import recordings
from tests.support.observed import observed
from tests.support.recordings import HOSTILE, ME, NAMES, state_of

ALL = ["waiting", "starting", "running", "no_quorum", "paused", "finished", "ended", "hostile", "big"]


def test_a_running_federation_in_values() -> None:
    state = state_of(recordings.running())
    found = snapshot_of(state, "the local user")
    assert (found.name, found.watched_as, found.phase) == (ME, "the local user", "running")
    assert (found.round, found.rounds, found.evaluated_round) == (41, 100, 41)
    assert found.accuracy == state.rounds.last.metrics["accuracy"]  # type: ignore[union-attr]
    assert (len(found.members), found.needed, found.tolerates, found.reachable) == (6, 4, 1, 5)
    assert found.aggregator == NAMES[0]
    doing = {peer.name: peer.doing for peer in found.peers}
    assert (doing[NAMES[0]], doing["shelf-pi5"], doing["attic-nuc"]) == ("collect", "train", "lost")
    lost = next(peer for peer in found.peers if peer.name == "attic-nuc")
    assert (lost.is_linked, lost.is_member, lost.is_me) == (False, True, False)
    [transfer] = found.transfers
    assert (transfer.what, transfer.peer) == ("push", NAMES[0])


def test_a_running_federation_in_lines() -> None:
    text = "\n".join(lines_of(snapshot_of(state_of(recordings.running()), "the local user")))
    assert f"node        {ME} (" in text
    assert ": running\n" in text
    assert "round       41 of 100 committed, macbook-1 aggregates the next\n" in text
    assert "quorum      5 of 6 members reachable, 4 needed; 1 may be lost\n" in text
    assert "\n✗ attic-nuc        lost            member " in text
    assert "sends to macbook-1: " in text


def test_where_some_members_are_selected_to_train_they_are_named() -> None:
    state = state_of(recordings.running())
    assert snapshot_of(state).selected == ()
    recordings.sampled(state, "shelf-pi5", "macbook-1")
    found = snapshot_of(state)
    assert found.selected == ("macbook-1", "shelf-pi5")
    assert "selected    2 of 6 members train in this round: macbook-1, shelf-pi5" in lines_of(found)


def test_a_node_without_a_run_says_what_it_waits_for() -> None:
    found = snapshot_of(state_of(recordings.waiting()))
    assert (found.run, found.needed, found.members, found.accuracy) == ("", 0, (), None)
    assert "run         waiting: 2 of 3 nodes are here" in lines_of(found)


@pytest.mark.parametrize(
    ("options", "line"),
    [("--rounds 200, --seed 2", "--rounds 200, --seed 2, of ben"), ("", "the defaults, of ben")],
)
def test_a_node_without_a_run_says_whose_options_it_will_have(options: str, line: str) -> None:
    state = state_of(recordings.waiting())
    waiting = events.Waiting(2, 3, "2 of 3 nodes are here", options=options, options_of="ben")
    state.apply(Published(0, state.time, waiting))
    found = snapshot_of(state)
    assert (found.options, found.options_of) == (options, "ben")
    assert f"options     {line}" in lines_of(found)


def test_a_long_reason_for_waiting_is_shown_whole() -> None:
    state = state_of(recordings.waiting())
    reason = (
        "--rounds is 200 on laptop and 50 on pi; run `p2pfl start` on the device whose options are to hold"
    )
    state.apply(Published(0, state.time, events.Waiting(3, 3, reason)))
    lines = lines_of(snapshot_of(state))
    at = lines.index("run         waiting: --rounds is 200 on laptop and 50 on pi; run `p2pfl start`")
    assert lines[at + 1] == "            on the device whose options are to hold"


@pytest.mark.parametrize(
    ("left", "line"),
    [
        (40 * 86400.0, ""),
        (12 * 86400.0 + 5, "certificate ends in 12 days, on "),
        (605.0, "certificate ends in 10 minutes, on "),
        (-5.0, "certificate expired on "),
        (-1e18, "certificate expired on a time out of range: no new link can be made"),
    ],
)
def test_a_certificate_that_ends_soon_has_a_line(left: float, line: str) -> None:
    state = state_of(recordings.running())
    state.apply(Published(0, state.time, events.CertificateChanged(state.time + left, "")))
    found = snapshot_of(state)
    assert found.certificate_until == state.time + left
    lines = [one for one in lines_of(found) if one.startswith("certificate")]
    assert (len(lines) == 1 and lines[0].startswith(line)) if line else not lines


def test_every_dialled_address_is_shown_with_its_state_its_reason_and_the_next_try() -> None:
    state = state_of(recordings.waiting())
    reason, at = "nothing listens there: is the node running, and on this port?", state.time + 5.0
    states = (
        AddressState("pi.local:9000", "listed", "", "", "unreached", reason, at),
        AddressState("nas.local:9000", "listed", "", "", "refused", "It is of another CA.", state.time),
        AddressState("192.0.2.9:9000", "found", "id", "bee", "linked", "", None),
        AddressState("cleo at 192.0.2.8:9000", "known", "", "", "dialling", "", None),
    )
    state.apply(Published(0, state.time, events.AddressStates(states)))
    found = snapshot_of(state)
    assert found.addresses == states
    assert found.unreached == {"pi.local:9000": reason, "nas.local:9000": "It is of another CA."}
    lines = lines_of(found)
    at_line = lines.index("address     pi.local:9000 (listed) is not reached: nothing listens there: is the")
    assert lines[at_line + 1 : at_line + 6] == [
        "            node running, and on this port?; the next try is in 5 s",
        "address     nas.local:9000 (listed) is refused: It is of another CA; it is being",
        "            tried again",
        "address     192.0.2.9:9000 (found) is linked: bee",
        "address     cleo at 192.0.2.8:9000 (known) is dialled",
    ]


def test_who_is_kept_out_is_shown_with_the_reason() -> None:
    state = state_of(recordings.running())
    text = "is banned by desk (operator): it was stolen from the laboratory on the second floor"
    state.apply(Published(0, state.time, events.MemberExcluded("b" * 52, "ben", text, is_held=True)))
    found = snapshot_of(state)
    assert found.excluded == {"b" * 52: f"ben {text}"}
    lines = lines_of(found)
    at = lines.index("kept out    ben is banned by desk (operator): it was stolen from the laboratory")
    assert lines[at + 1] == "            on the second floor"


def test_a_control_request_is_shown_with_its_author() -> None:
    state = state_of(recordings.running())
    state.apply(Published(0, state.time, events.ControlRequested("pause", "eve (operator)")))
    assert "wanted      pause, by eve (operator)" in lines_of(snapshot_of(state))


@pytest.mark.parametrize("name", ALL)
def test_lines_fit_80_characters_and_harm_no_terminal(name: str) -> None:
    lines = lines_of(snapshot_of(state_of(getattr(recordings, name)()), HOSTILE * 10))
    assert all(len(line) <= WIDTH and line.isprintable() for line in lines)


def test_what_has_no_bound_of_its_own_is_cut() -> None:
    found = snapshot_of(state_of(recordings.running()))
    lines = lines_of(msgspec.structs.replace(found, address="10.0.0.1:9000, " * 20))
    assert max(len(line) for line in lines) == WIDTH


@pytest.mark.parametrize("name", ALL)
def test_values_are_one_json_object_with_the_same_names(name: str) -> None:
    found = snapshot_of(state_of(getattr(recordings, name)()))
    decoded = msgspec.json.decode(msgspec.json.encode(found))
    assert list(decoded) == list(found.__struct_fields__)


async def test_a_snapshot_waits_for_a_measurement_and_not_longer_than_told(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        node.tell(events.Started("ada", node.credentials.node_id, "lab", "127.0.0.1:1", "/data", 0.1))
        async with await Observer.connect(node.target()) as observer:
            found = await take_snapshot(observer, seconds=0.0)
        assert (found.name, found.memory) == ("ada", 0)
        async with await Observer.connect(node.target()) as observer:
            node.tell(events.Notice("info", "nothing of the kind"))
            await asyncio.sleep(0)  # what is told in one turn comes in one frame
            node.tell(events.Measured(0.5, 1234, ()))
            found = await take_snapshot(observer, seconds=20.0)
        assert (found.name, found.memory, found.watched_as) == ("ada", 1234, "the local user")


def test_a_reported_accuracy_is_told_as_such_and_a_committed_one_without_a_word() -> None:
    reported = lines_of(snapshot_of(state_of(recordings.running())))
    assert "            reported by 6 of 6 members on 9,996 samples, not committed" in reported
    committed = snapshot_of(state_of(recordings.finished()))
    assert (committed.is_provisional, committed.evaluated_by) == (False, 6)
    assert not any("reported" in line for line in lines_of(committed))


def test_without_a_quorum_it_says_how_many_are_waited_for() -> None:
    lines = lines_of(snapshot_of(state_of(recordings.no_quorum())))
    assert "quorum      2 of 5 members reachable, 3 needed; waits for 1 more" in lines


def test_a_member_that_is_linked_and_not_in_the_run_is_not_counted_as_reachable() -> None:
    state = state_of(recordings.running())
    peer = state.peers["shelf-pi5"]
    assert peer.status is not None
    peer.status = msgspec.structs.replace(peer.status, run="")
    assert "quorum      4 of 6 members reachable, 4 needed; not one may be lost" in lines_of(
        snapshot_of(state)
    )


def test_a_round_that_waits_since_a_leaver_is_needed_says_for_whom() -> None:
    found = snapshot_of(state_of(recordings.running()))
    peers = tuple(
        msgspec.structs.replace(one, doing="leaving" if one.name in ("shelf-pi5", "roof-jetson") else "train")
        for one in found.peers
    )
    quorum = "quorum      5 of 6 members reachable, 4 needed; "
    assert quorum + "1 may be lost" in lines_of(msgspec.structs.replace(found, peers=peers))
    fewer = msgspec.structs.replace(found, peers=peers, reachable=4)
    [line] = [line for line in lines_of(fewer) if line.startswith("quorum")]
    assert line.startswith("quorum      4 of 6 members reachable, 4 needed; waits for another: shelf-pi5")


def test_who_was_left_out_of_the_last_round_is_named_with_the_reason() -> None:
    state = state_of(recordings.running())
    last = state.rounds.last
    assert last is not None
    last.left_out = (("pi", "pi cannot be dialled at 10.0.0.3:9003: does its firewall let port 9003 in?"),)
    assert [line for line in lines_of(snapshot_of(state)) if "9003" in line] == [
        "left out    pi in round 41: pi cannot be dialled at 10.0.0.3:9003: does its",
        "            firewall let port 9003 in?",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rounds": 12}, ": stopped before its last round"),
        ({"is_trained": False}, ": ended, but no update was ever counted"),
    ],
)
def test_a_run_that_is_not_complete_says_so(changes: dict[str, object], words: str) -> None:
    state = state_of(recordings.running())
    ended = events.RunEnded(state.run, 20, "d" * 64, {"accuracy": 0.9, "loss": 0.1}, 20)
    state.apply(Published(0, state.time, msgspec.structs.replace(ended, **changes)))
    assert any(line.endswith(words) for line in lines_of(snapshot_of(state)))


def test_another_strategy_than_fedavg_has_a_line() -> None:
    state = state_of(recordings.running())
    assert state.spec is not None
    assert snapshot_of(state).strategy == "fedavg"
    assert "strategy" not in "\n".join(lines_of(snapshot_of(state)))
    state.spec = with_options(state.spec, strategy="fedprox", strategy_arg={"mu": 0.5})
    assert "strategy    fedprox (mu 0.5)" in lines_of(snapshot_of(state))


def test_what_only_some_members_have_reported_is_no_value_of_the_federation() -> None:
    state = state_of(recordings.running())
    last = state.rounds.last
    assert last is not None
    last.scores = last.scores[:2]
    found = snapshot_of(state)
    assert (found.evaluated_round, found.evaluated_by) == (last.round - 1, 6)
