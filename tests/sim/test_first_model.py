"""A member that cannot pull the initial model delays no round, and takes part as soon as it has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, number, others, spec, trainers

SOON = 40.0
"""Seconds, including those until the run is founded, after which the others have gone on without it; the round's cap is 60."""


def test_a_founding_member_that_cannot_pull_the_first_model_is_not_awaited_and_comes_later() -> None:
    for seed in range(4):
        world = World(seed, nodes=4, spec=spec(40))
        one = number(world, 4)  # not the one with the lowest id, which founds
        world.transfers.block({(node, one.member.node) for node in world.devices})
        world.begin()
        world.run_until(at_round(world, 1, *others(world, one)), SOON)
        first = chain(others(world, one)[0])[0]
        reasons = {left.reason for left in first.left_out if left.node == one.member.node}
        assert reasons == {"it is not in this run"}
        world.transfers.unblock(set(world.transfers.blocked))
        world.run_until(takes_part(one), LIMIT)


def takes_part(device: Device) -> Callable[..., Any]:
    return lambda: bool(chain(device)) and device.member.node in trainers(chain(device)[-1])
