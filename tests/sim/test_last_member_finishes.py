"""All others have left: the last member finishes alone, and a start on its finished run serves who comes late."""

from __future__ import annotations

from p2pfl.core import inputs
from p2pfl.sim.device import Device
from p2pfl.sim.setting import SETTINGS
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, number, spec


def finished_alone(seed: int = 81) -> tuple[World, Device, Device]:
    """Of two, one leaves after round 1; the other trains to the end."""
    world = World(seed, nodes=2, spec=spec(4))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    stays, leaves = number(world, 1), number(world, 2)
    world.feed(leaves, inputs.Leave())
    world.run_until(lambda: stays.exit is not None and leaves.exit is not None, LIMIT)
    assert known(stays.exit).code == 0
    assert len(chain(stays)[-1].roster) == 1
    return world, stays, leaves


def test_started_again_it_finds_the_final_model_on_its_own_disk() -> None:
    world, stays, _ = finished_alone()
    world.start(stays)
    world.run_until(lambda: stays.exit is not None, LIMIT)
    assert known(stays.exit).code == 0


def test_started_again_it_stays_for_who_may_come() -> None:
    world, stays, leaves = finished_alone()
    world.start(stays)
    world.run_for(2.0)
    assert stays.is_up
    world.start(leaves)
    world.run_until(world.is_complete, LIMIT)
    assert chain(leaves) == chain(stays)


def test_nobody_waits_for_anybody_at_the_end_of_the_first_start() -> None:
    world = World(82, nodes=1, spec=spec(2))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    assert world.now < SETTINGS.linger


def test_started_again_when_nobody_comes_it_goes_after_a_glance() -> None:
    world, stays, _ = finished_alone()
    began = world.now
    world.start(stays)
    world.run_until(lambda: stays.exit is not None, LIMIT)
    assert SETTINGS.glance <= world.now - began < SETTINGS.glance + 2


def test_members_of_a_complete_run_that_are_not_there_are_waited_for_only_a_glance() -> None:
    world = World(83, nodes=3, spec=spec(2))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    again = number(world, 2)
    began = world.now
    world.start(again)
    world.run_until(lambda: again.exit is not None, LIMIT)
    assert known(again.exit).code == 0
    assert world.now - began < SETTINGS.glance + 2
