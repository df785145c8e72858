"""What is told of a run, and that it is told once."""

import msgspec
import pytest

from p2pfl import events
from p2pfl.messages import Collect
from tests.support.core import ballot, taken, told, unlink
from tests.support.records import NAMES, node, resigned, update
from tests.support.running import Bench


@pytest.fixture
def bench():
    return Bench()


def test_whose_update_is_not_counted_is_told_why(bench):
    bench.it.trainee.trained(update("ada", 2).digest, 100, 0.5, 1.0)
    taken(bench.ctx)
    commit = bench.chain.commit()
    without = tuple(entry for entry in commit.record.updates if entry.node != node("ada"))
    record = msgspec.structs.replace(commit.record, updates=without)
    effects = bench.learn(resigned(msgspec.structs.replace(commit, record=record)))
    assert [event.reason for event in told(effects, events.UpdateRefused)] == ["another record was adopted"]


def test_the_election_is_told_once_for_a_ballot(bench):
    collect = Collect(bench.chain.run, 2, ballot(3, "ben"), selected=True)
    told_first = told(bench.hear("ben", collect), events.Elected)
    assert [(event.aggregator, event.attempt) for event in told_first] == [("ben", 3)]
    assert told(bench.hear("ben", collect), events.Elected) == []


def test_the_loss_and_the_return_of_the_quorum_are_told_once():
    bench = Bench(members=NAMES)
    for name in ("ben", "cleo", "dan"):
        unlink(bench.ctx, name)
    (lost,) = told(bench.advance() + bench.advance(5.0), events.QuorumLost)
    assert (lost.reachable, lost.members, lost.needed) == (2, 5, 3)
    bench.ctx.peers[node("ben")].linked = True
    (back,) = told(bench.advance() + bench.advance(1.0), events.QuorumBack)
    assert back.reachable == 3
