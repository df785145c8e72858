from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Tell
from p2pfl.sim.faults import CALM, Faults
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import at_round, chain, news, number, spec


def started(nodes: int = 3) -> World:
    world = World(1, nodes=nodes, spec=spec(200))
    world.begin()
    world.run_for(2.0)
    return world


def connected(world: World, one: int, other: int) -> Any:
    return world.is_connected(number(world, one).member.node, number(world, other).member.node)


def test_everybody_is_linked_to_everybody_within_two_seconds() -> None:
    world = started()
    assert all(connected(world, *pair) for pair in [(1, 2), (1, 3), (2, 3)])


def test_a_cut_parts_two_sides_and_leaves_each_whole() -> None:
    world = started()
    world.cut({number(world, 1).member.node})
    assert not connected(world, 1, 2)
    assert connected(world, 2, 3)
    world.heal()
    world.run_for(1.0)
    assert connected(world, 1, 2)


def test_a_crash_ends_the_links_and_a_restart_brings_them_back() -> None:
    world = started()
    world.crash(number(world, 1), 1.0)
    assert not connected(world, 1, 2)
    assert not number(world, 1).is_up
    world.run_for(2.0)
    assert connected(world, 1, 2)


def test_what_a_crashed_process_waited_for_never_reaches_the_next_one() -> None:
    world = started()
    device = number(world, 1)
    process = device.process
    world.crash(device, 0.0)
    world.run_for(0.1)
    assert device.process == process + 1
    # Its worker described the task anew: the answer to the first process was dropped.
    assert known(device.node).deadline() is not None


def test_a_run_that_does_not_complete_says_where_everybody_is() -> None:
    world = World(1, nodes=3)
    with pytest.raises(Violation, match=r"progress: not done at .*: node-1 down no run; node-2"):
        world.run_until(lambda: False, 1.0)


def test_time_stands_where_run_for_was_told_to_stop() -> None:
    world = started()
    at = world.now
    world.run_for(7.5)
    assert world.now == at + 7.5


def test_a_fault_can_be_aimed_at_any_effect() -> None:
    world = World(2, nodes=3, spec=spec(2))
    kinds = set()
    world.on_effect = lambda device, effect: kinds.add(type(effect).__name__)
    world.run()
    assert {"SavePromise", "SaveAccepted", "SaveCommit", "Train", "Aggregate", "DeleteUnneededBlobs"} <= kinds
    assert Tell.__name__ in kinds


def test_finished_devices_are_started_again_for_one_that_comes_late() -> None:
    world = World(3, nodes=3, spec=spec(2))
    world.begin()
    world.run_until(at_round(world, 1), 100.0)
    late = number(world, 2)
    world.crash(late, 120.0)
    world.run_until(world.is_complete, 400.0)
    assert len(chain(late)) == 3


def test_an_input_to_a_crashed_device_is_lost() -> None:
    world = started()
    world.crash(number(world, 1), 100.0)
    world.feed(number(world, 1), inputs.Leave())
    assert number(world, 1).exit is None


def test_a_power_cut_takes_blobs_that_were_not_flushed_and_a_crash_leaves_them() -> None:
    world = started()
    for device, power in ((number(world, 1), True), (number(world, 2), False)):
        device.disk.unflushed.add("update")
        world.crash(device, 100.0, power=power)
        assert device.disk.has("update") is not power


# --- suspended and asleep -----------------------------------------------------------------------------------


def test_a_suspended_process_takes_in_what_came_meanwhile_when_it_goes_on() -> None:
    world = started()
    device = number(world, 1)
    world.freeze(device, 3.0)
    heard = len(device.told)
    world.run_for(2.9)
    assert len(device.told) == heard
    waiting = len(known(device.inbox))
    assert waiting > 0
    world.run_for(0.2)
    assert not device.is_frozen
    assert connected(world, 1, 2), "it came back before the others noticed"


def test_a_long_suspension_is_noticed_by_the_silence_and_the_links_come_back() -> None:
    world = started()
    world.freeze(number(world, 1), 20.0)
    world.run_for(7.0)
    assert not connected(world, 1, 2)
    assert connected(world, 2, 3)
    world.run_for(14.0)
    assert connected(world, 1, 2)


def test_a_crash_ends_a_suspension() -> None:
    world = started()
    device = number(world, 1)
    world.freeze(device, 20.0)
    world.crash(device, 1.0)
    world.run_for(2.0)
    assert device.is_up
    assert not device.is_frozen
    world.run_for(30.0)
    assert device.is_up


@pytest.mark.parametrize(("is_counted", "lag"), [(True, 0.0), (False, 30.0)])
def test_a_device_that_slept_has_lost_its_links_and_its_clock_stood_still_or_not(
    is_counted: bool, lag: float
) -> None:
    world = started()
    device = number(world, 1)
    world.sleep(device, 30.0, is_counted=is_counted)
    world.run_for(30.01)
    assert not connected(world, 1, 2)
    assert device.lag == lag
    world.run_for(1.0)
    assert connected(world, 1, 2)


# --- disks --------------------------------------------------------------------------------------------------


def at_round_two(nodes: int = 3) -> World:
    world = World(6, nodes=nodes, spec=spec(8))
    world.begin()
    world.run_until(at_round(world, 2), 100.0)
    return world


def test_who_is_told_that_its_disk_is_a_copy_comes_back_with_a_new_journal() -> None:
    world = at_round_two()
    device = number(world, 1)
    backup, before = device.disk.backup(), device.member
    world.crash(device, 0.0)
    world.run_for(2.0)
    world.restore_disk(device, backup, 0.0)
    world.run_until(lambda: device.member != before, 100.0)
    assert before in world.checker.votes.gone
    world.run_until(world.is_complete, 400.0)


def test_one_that_left_and_is_away_comes_back() -> None:
    world = at_round_two()
    device = number(world, 3)
    device.is_away = True
    world.feed(device, inputs.Leave())
    world.run_until(lambda: device.exit is not None, 100.0)
    world.run_until(lambda: device.is_up, 200.0)
    assert [event.how for event in news(device, events.RunJoined)] == ["joined", "resumed"]


# --- the end of the faults ----------------------------------------------------------------------------------


def test_faults_end_in_time_and_leave_nothing_behind() -> None:
    faults = msgspec.structs.replace(CALM, until=20.0)
    world = World(7, nodes=3, spec=spec(30), faults=faults)
    world.begin()
    world.run_for(15.0)
    world.cut({number(world, 1).member.node})
    world.network.lose_messages({(number(world, 2).member.node, number(world, 3).member.node)})
    world.freeze(number(world, 3), 1000.0)
    was_faulty = world.is_faulty
    world.run_for(8.0)
    assert (was_faulty, world.is_faulty) == (True, False)
    assert not any(device.is_frozen for device in world.devices.values())
    assert all(connected(world, *pair) for pair in [(1, 2), (1, 3), (2, 3)])


def test_one_may_be_late_and_is_not_waited_for() -> None:
    world = World(8, faults=Faults(until=40.0, late=1.0), spec=spec(30))
    assert {device.options.min_nodes for device in world.devices.values()} == {4}
    world.begin()
    world.run_until(at_round(world, 1, *list(world.devices.values())[:4]), 100.0)
    world.run_until(world.is_complete, 600.0)


def test_of_many_nodes_two_thirds_suffice_to_found_a_run_while_there_are_faults() -> None:
    def wanted(nodes: Any, **faults: Any) -> Any:
        return next(iter(World(1, nodes=nodes, faults=Faults(**faults)).devices.values())).options.min_nodes

    assert wanted(5) == 5
    assert wanted(12) == 8
    assert wanted(12, until=0.0) == 12
