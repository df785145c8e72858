"""A laptop's lid is closed for an hour: its links are gone, its clock stood still or jumped, no hand helps."""

from __future__ import annotations

import pytest

from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, number, others, spec, trainers

HOUR = 3600.0


def asleep(seed: int, seconds: float = HOUR, *, is_counted: bool, rounds: int = 6) -> tuple[World, Device]:
    world = World(seed, spec=spec(rounds, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    device = number(world, 2)
    world.sleep(device, seconds, is_counted=is_counted)
    return world, device


@pytest.mark.parametrize("is_counted", [True, False], ids=["its clock jumped", "its clock stood still"])
def test_the_others_finish_and_it_catches_up_when_it_wakes(is_counted: bool) -> None:
    world, device = asleep(55, is_counted=is_counted)
    world.run_for(200.0)
    assert all(chain(other)[-1].then == "end" for other in others(world, device))
    assert len(chain(device)) < len(chain(number(world, 1)))
    world.run_until(world.is_complete, HOUR + 400.0)
    assert len({world.checker.digest(chain(one)[-1]) for one in world.devices.values()}) == 1


@pytest.mark.parametrize("is_counted", [True, False], ids=["its clock jumped", "its clock stood still"])
def test_in_a_run_that_goes_on_it_takes_part_again_within_seconds(is_counted: bool) -> None:
    world, device = asleep(56, 120.0, is_counted=is_counted, rounds=1000)
    world.run_for(120.0)
    awake = number(world, 1)
    rounds = len(chain(awake))
    world.run_for(10.0)
    assert device.member.node in {node for record in chain(awake)[rounds:] for node in trainers(record)}


def test_a_clock_set_by_hand_costs_the_links_and_nothing_else() -> None:
    world = World(57, spec=spec(6))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    device = number(world, 2)
    world.sleep(device, 0.0, is_counted=True)
    world.run_for(0.01)
    assert not any(
        world.is_connected(device.member.node, other.member.node) for other in others(world, device)
    )
    world.run_until(world.is_complete, LIMIT)
    assert {len(record.updates) for record in chain(device)[:-1]} <= {4, 5}
