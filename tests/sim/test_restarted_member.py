"""A member restarts in a round: it has forgotten who aggregates, and leaves the round to that one all the same."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl import events
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, news, number, others, spec

LONG = 8.0
"""Times as long as the others that one member trains, so that the round waits for it."""


def counted(device: Device, round_: int) -> set[str]:
    """Return the names of those whose updates *device* has counted for *round_*."""
    return {event.name for event in news(device, events.UpdateCounted) if event.round == round_}


@pytest.mark.parametrize("seed", range(8))
def test_whose_update_is_counted_takes_no_round_from_its_aggregator(seed: int) -> None:
    world = World(seed, nodes=3, spec=spec(3))
    slow = number(world, 3)
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    slow.slowness = LONG
    world.run_until(at_round(world, 2), LIMIT)
    members = others(world, slow)

    def half_is_counted() -> Any:
        return any(len(counted(device, 3)) == 2 for device in world.devices.values())

    world.run_until(half_is_counted, LIMIT)
    aggregator = next(device for device in world.devices.values() if len(counted(device, 3)) == 2)
    restarted = next(device for device in members if device is not aggregator)
    world.crash(restarted, 0.1, power=False)
    world.run_until(at_round(world, 3), LIMIT)
    assert chain(slow)[-1].ballot.node == aggregator.member.node
    assert not any(
        event.round == 3 for device in world.devices.values() for event in news(device, events.SteppedDown)
    )
