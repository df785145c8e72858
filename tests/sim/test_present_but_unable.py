"""A member whose link is up and that cannot do its part: it is neither awaited nor counted, and can be dropped."""

from __future__ import annotations

from typing import Any

import msgspec

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, others, rig, spec


def turned_away(
    seed: int, *gone: int, nodes: int = 5, rounds: int = 30, **changes: float
) -> tuple[World, list[Device], list[Device]]:
    """A run in which the members number *gone* start again with `--new-run` after the first round."""
    world = World(seed, nodes=nodes, spec=spec(rounds, **changes))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    devices = [number(world, index) for index in gone]
    for device in devices:
        device.options = msgspec.structs.replace(device.options, new_run=True)
        world.crash(device, 1.0, power=False)
    world.run_for(3.0)
    assert all(known(device.node).ledger is None for device in devices)
    return world, devices, others(world, *devices)


def test_who_turned_to_a_new_run_is_not_waited_for() -> None:
    for seed in range(5):
        world, gone, rest = turned_away(seed, 2)
        began, before = world.now, len(chain(rest[0]))
        world.run_until(at_round(world, before + 5, *rest), LIMIT)
        assert world.now - began < 5 * 5.0
        last = chain(rest[0])[-1]
        assert {left.reason for left in last.left_out} == {"it is not in this run"}
        assert all(world.is_connected(device.member.node, gone[0].member.node) for device in rest)


def test_members_that_turned_away_are_dropped_after_a_while_although_they_are_linked() -> None:
    world, _, rest = turned_away(11, 1, 2, drop_after=10.0)
    world.run_until(lambda: any(event.left for event in news(rest[0], events.RosterChanged)), LIMIT)
    assert names(chain(rest[0])[-1]) == {device.name for device in rest}


def test_members_that_turned_away_are_no_quorum() -> None:
    world, _, rest = turned_away(12, 1, 2, 3)
    world.run_for(20.0)
    lost = news(rest[0], events.QuorumLost)[-1]
    assert (lost.reachable, lost.needed) == (2, 3)


def test_a_member_that_cannot_have_the_last_model_says_so_and_is_not_waited_for() -> None:
    world = World(13, nodes=5, spec=spec(30))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    poor, fetch = number(world, 2), world.transfers.fetch

    def refuse(device: Any, effect: Any) -> None:
        if device is poor and effect.durable:
            failed = inputs.BlobFailed(effect.digest, "nobody reachable has it", invalid=False)
            world.after(0.1, world.hand, device, device.process, failed)
        else:
            fetch(device, effect)

    rig(world.transfers, "fetch", refuse)
    began, before = world.now, len(chain(number(world, 1)))
    world.run_until(at_round(world, before + 6, *others(world, poor)), LIMIT)
    assert world.now - began < 6 * 7.0
    reasons = [left.reason for record in chain(number(world, 1))[before + 1 :] for left in record.left_out]
    assert set(reasons) == {"it cannot have the last model: nobody reachable has it"}
