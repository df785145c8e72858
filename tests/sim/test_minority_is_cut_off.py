"""Two of five are cut off: they commit nothing and say so, the three go on; healed, all end with one chain."""

from __future__ import annotations

from p2pfl import events
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, news, number, others, spec, trainings


def cut_two_of_five(drop_after: float) -> tuple[World, list[Device], list[int]]:
    world = World(5, spec=spec(6, drop_after=drop_after))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    minority = [number(world, 1), number(world, 4)]
    world.cut({device.member.node for device in minority})
    return world, minority, [len(chain(device)) for device in minority]


def test_a_minority_commits_nothing_and_says_how_many_are_needed() -> None:
    world, minority, before = cut_two_of_five(drop_after=1000.0)
    world.run_for(20.0)
    assert [len(chain(device)) for device in minority] == before
    for device in minority:
        (lost,) = news(device, events.QuorumLost)
        assert (lost.reachable, lost.members, lost.needed) == (2, 5, 3)


def test_the_majority_goes_on_and_healing_completes_the_run_everywhere() -> None:
    world, minority, before = cut_two_of_five(drop_after=1000.0)
    world.run_until(at_round(world, max(before) + 2, *others(world, *minority)), LIMIT)
    world.heal()
    world.run_until(world.is_complete, LIMIT)
    assert len({world.checker.digest(chain(device)[-1]) for device in world.devices.values()}) == 1
    for device in minority:
        assert any(event.members == 5 for event in news(device, events.QuorumBack))


def test_what_the_minority_trained_is_kept() -> None:
    world = World(5, spec=spec(6, drop_after=1000.0))
    world.begin()
    minority = [number(world, 1), number(world, 4)]
    world.run_until(lambda: all(trainings(world, 2)[device.name] for device in minority), LIMIT)
    world.cut({device.member.node for device in minority})
    world.run_for(20.0)
    for device in minority:
        (saved,) = device.disk.updates.values()
        assert saved[0] == len(chain(device)) + 1
        assert device.disk.has(saved[2].digest)


def test_two_halves_of_four_both_stop() -> None:
    world = World(6, nodes=4, spec=spec(6, drop_after=5.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.cut({number(world, 1).member.node, number(world, 2).member.node})
    world.run_for(1.0)
    before = [len(chain(device)) for device in world.devices.values()]
    world.run_for(60.0)
    assert [len(chain(device)) for device in world.devices.values()] == before
    world.heal()
    world.run_until(world.is_complete, LIMIT)
