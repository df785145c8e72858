"""Everybody is killed at once and started again: promises, updates and the run come back from the disks."""

import pytest

from p2pfl import events
from p2pfl.messages import Accept, Collect, Promise, Submit
from p2pfl.sim.world import World
from tests.support.worlds import (
    LIMIT,
    asking,
    at_round,
    chain,
    news,
    number,
    once,
    sends,
    spec,
    trained,
    trainers,
)


def kill_all(world: World, *, power: bool = False) -> None:
    """Kill every process, or, with *power*, take every device down with what it had not flushed."""
    for device in world.devices.values():
        world.crash(device, 3.0, power=power)


@pytest.mark.parametrize("moment", [Promise, Collect, Submit, Accept])
def test_all_killed_in_the_middle_of_a_round_go_on_where_they_were(
    moment: type[Accept] | type[Promise] | type[Collect] | type[Submit],
) -> None:
    world = World(7, spec=spec(3))
    if moment is Promise:
        asking(world)
    once(world, sends(moment, 2), lambda _device: kill_all(world))
    world.run()
    assert {len(chain(device)) for device in world.devices.values()} == {4}
    for device in world.devices.values():
        assert [event.how for event in news(device, events.RunJoined)][1] == "resumed"


def test_an_update_from_before_the_kill_is_offered_and_not_trained_again() -> None:
    world = World(7, spec=spec(3))
    once(world, sends(Accept, 2), lambda _device: kill_all(world))
    world.run()
    assert set(trained(world, 2).values()) == {1}
    reused = [event for device in world.devices.values() for event in news(device, events.UpdateReused)]
    assert {event.round for event in reused} == {2}


def test_a_power_cut_costs_those_who_had_trained_their_updates_and_new_ones_are_counted() -> None:
    world = World(7, spec=spec(3))
    world.begin()
    world.run_until(lambda: trained(world, 2).total() == 3, LIMIT)
    before = set(trained(world, 2))
    kill_all(world, power=True)
    world.run_until(world.is_complete, LIMIT)
    again = {name for name, times in trained(world, 2).items() if times == 2}
    assert again == before
    assert not any(news(device, events.UpdateReused) for device in world.devices.values())
    assert len(trainers(chain(number(world, 1))[1])) == 5


def test_all_killed_between_two_rounds_found_no_second_run() -> None:
    world = World(8, spec=spec(3))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    kill_all(world)
    world.run_until(world.is_complete, LIMIT)
    assert {run for device in world.devices.values() for run in device.disk.order} == {
        chain(next(iter(world.devices.values())))[0].run
    }
