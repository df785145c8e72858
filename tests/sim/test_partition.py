"""Two of five are cut off in the middle of a run."""

from p2pfl import events
from p2pfl.sim.world import World
from tests.support.worlds import last_records, reached, told


def test_the_minority_commits_nothing_and_says_so_while_the_majority_goes_on():
    world = World(1, nodes=5, rounds=12)
    world.begin()
    world.run_until(reached(world, 3), 100)
    devices = list(world.devices.values())
    minority, majority = devices[:2], devices[2:]
    world.cut({device.member.node for device in minority})
    before = [device.node.ledger.round for device in minority]
    world.run_until(reached(world, 6, majority), 200)
    assert [device.node.ledger.round for device in minority] == before
    lost = told(minority[0], events.QuorumLost)
    assert (lost[-1].reachable, lost[-1].members, lost[-1].needed) == (2, 5, 3)

    world.heal()
    world.run_until(world.is_complete, 400)
    assert len(last_records(world)) == 1
    assert told(minority[0], events.QuorumBack)
