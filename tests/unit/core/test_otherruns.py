"""What a node does about runs it is not in, seen from outside."""

from p2pfl import events
from p2pfl.core.effects import (
    Describe,
    SaveClosed,
)
from p2pfl.core.saved import Saved, SavedRun
from p2pfl.messages import (
    Decline,
    Offer,
    Prepare,
    Records,
    RecordsRequest,
)
from tests.support.core import ballot, chain_of, of_kind, sent, told
from tests.support.device import Device, in_run, joined, where
from tests.support.known import known
from tests.support.records import NAMES, digest


def test_new_run_turns_away_from_the_one_in_the_journal_for_good() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    saved = SavedRun(chain.run, chain.genesis, chain.commits[-1], None, resumed=False)
    device = Device(Saved(saved, {}, frozenset()), new_run=True)
    assert of_kind(device.began, SaveClosed) == [SaveClosed(chain.run)]
    device.link("ben")
    device.describe()
    assert of_kind(device.hear("ben", Offer(chain.genesis)), Describe) == []


def test_who_is_in_a_run_that_was_left_for_good_and_has_not_begun_hears_that_nobody_comes() -> None:
    chain = chain_of(*NAMES[:3])
    saved = SavedRun(chain.run, chain.genesis, None, None, resumed=False)
    device = Device(Saved(saved, {}, frozenset()), new_run=True)
    device.link("ben")
    (decline,) = sent(device.hear("ben", where(chain)), Decline)
    assert decline == Decline(chain.run, "it has left that run for good")


def test_at_round_0_a_node_moves_to_a_run_that_is_further_and_keeps_its_votes() -> None:
    device, _ = joined(chain_of(*NAMES[:3]))
    mine = device.ledger.run
    device.hear("ben", Prepare(mine, 1, ballot(3, "ben")))
    theirs = chain_of(*NAMES[:4], rounds=2)
    asked = device.hear("ben", where(theirs, steps=9))
    assert sent(asked, RecordsRequest) == [RecordsRequest(theirs.run, -1)]
    device.hear("ben", Records(theirs.run, theirs.genesis, tuple(theirs.commits)))
    device.describe(theirs.genesis.spec)
    assert device.ledger.run == theirs.run
    assert device.ledger.round == 2
    assert known(device.node._votes[mine].promised) >= ballot(3, "ben")


def test_a_node_that_commits_while_it_looks_at_another_run_stays() -> None:
    mine, theirs = chain_of(*NAMES[:3]), chain_of(*NAMES[:4], rounds=2)
    device, _ = joined(mine)
    device.hear("ben", where(theirs, steps=9))
    device.hear("ben", Records(theirs.run, theirs.genesis, tuple(theirs.commits)))
    device.hear("ben", mine.commit())
    device.describe(theirs.genesis.spec)
    assert device.ledger.run == mine.run
    assert device.ledger.round == 1


def test_a_node_with_committed_rounds_does_not_move_and_says_so_once() -> None:
    device = in_run(chain_of(*NAMES[:3], rounds=1))
    device.link("ben")
    other = chain_of(*NAMES[:4], rounds=3)
    asked = device.hear("ben", where(other, steps=1))
    assert sent(asked, RecordsRequest) == [RecordsRequest(other.run, -1)], (
        "its record 0 would say if it continued this run"
    )
    effects = device.hear("ben", Records(other.run, other.genesis, tuple(other.commits)))
    effects += device.hear("ben", where(other, steps=2))
    assert sent(effects, RecordsRequest) == []
    assert device.ledger.run != other.run
    (notice,) = told(effects, events.Notice)
    assert "Both have committed rounds, so neither moves" in notice.text


def test_records_nobody_asked_for_are_not_taken() -> None:
    device = Device()
    device.link("ben")
    device.describe()
    chain = chain_of(*NAMES[:3], rounds=1)
    assert device.hear("ben", Records(chain.run, chain.genesis, tuple(chain.commits))) == []


def test_a_record_0_that_is_not_the_run_asked_for_is_not_taken() -> None:
    device = Device()
    device.link("ben")
    device.describe()
    chain, other = chain_of(*NAMES[:3]), chain_of(*NAMES[:4])
    device.hear("ben", where(chain))
    assert of_kind(device.hear("ben", Records(chain.run, other.genesis, ())), Describe) == []


def test_who_cannot_take_part_in_this_run_is_not_waited_for_until_it_joins() -> None:
    chain = chain_of(*NAMES[:3], rounds=1)
    device = in_run(chain)
    entry = next(one for one in device.ledger.roster if one.name == "ben")
    device.link("ben")
    assert device.node._ctx.is_seated(entry)
    device.hear("ben", Decline(chain.run, "its model differs"))
    assert device.node._ctx.is_gone(entry)
    device.hear("ben", where(chain))
    assert device.node._ctx.is_seated(entry)


def test_a_peer_that_cannot_take_part_is_told_of_once_in_a_while() -> None:
    device = Device()
    device.link("ben")
    heard = [device.hear("ben", Decline(digest(f"run {number}"), "no")) for number in range(5)]
    assert [len(told(effects, events.Notice)) for effects in heard] == [1, 0, 0, 0, 0]


def test_a_run_that_was_abandoned_is_not_looked_at_again() -> None:
    device = Device()
    device.link("ben")
    device.describe()
    chain = chain_of(*NAMES[:3])
    device.node._others.lobby.abandoned_runs.give_up(chain.run, "its model did not come")
    assert of_kind(device.hear("ben", Offer(chain.genesis)), Describe) == []


def test_at_round_0_a_run_with_the_larger_id_is_not_looked_at() -> None:
    low, high = sorted((chain_of(*NAMES[:count]) for count in (3, 4)), key=lambda chain: chain.run)
    for mine, theirs, looks in [(low, high, False), (high, low, True)]:
        device, _ = joined(mine)
        assert bool(of_kind(device.hear("ben", Offer(theirs.genesis)), Describe)) is looks


def test_records_of_a_device_that_was_never_linked_move_nobody() -> None:
    device = in_run(chain_of(*NAMES[:3], rounds=1))
    device.link("ben")
    other = chain_of(*NAMES[:4], rounds=3)
    device.hear("ben", where(other, steps=1))
    assert device.hear("cleo", Records(other.run, other.genesis, tuple(other.commits))) == []


def test_a_member_that_gives_up_what_it_founded_is_the_reason_only_while_this_device_is_in_no_run() -> None:
    chain = chain_of(*NAMES[:3])
    outside = Device()
    outside.link("ben")
    inside, _ = joined(chain)
    for device, gives_up in ((outside, True), (inside, False)):
        device.hear("ben", where(chain))
        device.hear("ben", Decline(chain.run, "no quorum is left"))
        assert device.node._others.lobby.abandoned_runs.is_hopeless(chain.run) is gives_up
