import pytest

from p2pfl.core import inputs
from p2pfl.core.effects import Tell
from p2pfl.sim.checker import Violation
from p2pfl.sim.world import World
from tests.support.worlds import at_round, chain, number, spec


def started(nodes=3):
    world = World(1, nodes=nodes, spec=spec(3))
    world.begin()
    world.run_for(2.0)
    return world


def connected(world, one, other):
    return world.is_connected(number(world, one).member.node, number(world, other).member.node)


def test_everybody_is_linked_to_everybody_within_two_seconds():
    world = started()
    assert all(connected(world, *pair) for pair in [(1, 2), (1, 3), (2, 3)])


def test_a_cut_parts_two_sides_and_leaves_each_whole():
    world = started()
    world.cut({number(world, 1).member.node})
    assert not connected(world, 1, 2)
    assert connected(world, 2, 3)
    world.heal()
    world.run_for(1.0)
    assert connected(world, 1, 2)


def test_a_crash_ends_the_links_and_a_restart_brings_them_back():
    world = started()
    world.crash(number(world, 1), 1.0)
    assert not connected(world, 1, 2)
    assert not number(world, 1).is_up
    world.run_for(2.0)
    assert connected(world, 1, 2)


def test_what_a_crashed_process_waited_for_never_reaches_the_next_one():
    world = started()
    device = number(world, 1)
    boot = device.boot
    world.crash(device, 0.0)
    world.run_for(0.1)
    assert device.boot == boot + 1
    # Its worker described the task anew: the answer to the first process was dropped.
    assert device.node.deadline() is not None


def test_a_deaf_pair_loses_messages_one_way_while_the_link_is_up():
    world = started()
    pair = (number(world, 1).member.node, number(world, 2).member.node)
    world.deaf.add(pair)
    heard = number(world, 2).node._ctx.peers[pair[0]].status.steps
    answered = number(world, 1).node._ctx.peers[pair[1]].status.steps
    world.run_for(5.0)
    assert connected(world, 1, 2)
    assert number(world, 2).node._ctx.peers[pair[0]].status.steps <= heard + 1  # one was under way
    assert number(world, 1).node._ctx.peers[pair[1]].status.steps > answered + 2


def test_a_run_that_does_not_complete_says_where_everybody_is():
    world = World(1, nodes=3)
    with pytest.raises(Violation, match=r"progress: not done at .*: node-1 down no run; node-2"):
        world.run_until(lambda: False, 1.0)


def test_time_stands_where_run_for_was_told_to_stop():
    world = started()
    at = world.now
    world.run_for(7.5)
    assert world.now == at + 7.5


def test_a_fault_can_be_aimed_at_any_effect():
    world = World(2, nodes=3, spec=spec(2))
    kinds = set()
    world.on_effect = lambda device, effect: kinds.add(type(effect).__name__)
    world.run()
    assert {"SavePromise", "SaveAccepted", "SaveCommit", "Train", "Fold", "Average", "Collect"} <= kinds
    assert Tell.__name__ in kinds


def test_finished_devices_are_started_again_for_one_that_comes_late():
    world = World(3, nodes=3, spec=spec(2))
    world.begin()
    world.run_until(at_round(world, 1), 100.0)
    late = number(world, 2)
    world.crash(late, 120.0)
    world.run_until(world.is_complete, 400.0)
    assert len(chain(late)) == 3


def test_an_input_to_a_crashed_device_is_lost():
    world = started()
    world.crash(number(world, 1), 100.0)
    world.feed(number(world, 1), inputs.Leave())
    assert number(world, 1).exit is None
