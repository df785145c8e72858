"""A run that cannot begin is given up, everywhere and with a sentence, and another one is founded."""

from __future__ import annotations

from functools import partial
from typing import Any

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.abandoned_runs import PAUSE_SECONDS
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, chain, news, rig, runs, spec


def founder_of(world: World) -> Device:
    return world.devices[min(world.devices)]


def texts(device: Device) -> list[str]:
    return [notice.text for notice in news(device, events.Notice)]


def has_begun(world: World) -> bool:
    return any(chain(device) for device in world.devices.values())


def test_when_nobody_can_pull_from_the_founder_another_device_founds() -> None:
    for seed in range(5):
        world = World(seed, nodes=3, spec=spec(3))
        founder = founder_of(world)
        world.network.unpullable = {founder.member.node}
        world.begin()
        world.run_until(partial(has_begun, world), 45.0)
        world.run_until(world.is_complete, LIMIT)
        assert len(runs(world)) == 1
        assert [event.how for event in news(founder, events.RunJoined)] == ["founded", "joined"]
        for device in world.devices.values():
            assert any(
                "its first model could not be pulled: nobody reachable has it" in t for t in texts(device)
            )


def test_when_nobody_can_found_all_are_told_why_and_it_is_tried_again_later() -> None:
    world = World(7, nodes=3, spec=spec(3))
    fetch = world.transfers.fetch

    def refuse(device: Any, effect: Any) -> None:
        failed = inputs.BlobFailed(effect.digest, "an element is not finite", invalid=True)
        world.after(0.1, world.hand, device, device.process, failed)

    rig(world.transfers, "fetch", refuse)
    world.begin()
    world.run_for(30.0)
    for device in world.devices.values():
        assert known(device.node).ledger is None
        assert "an element is not finite" in news(device, events.Waiting)[-1].reason
        assert len(device.told) < 60
    rig(world.transfers, "fetch", fetch)
    world.run_for(PAUSE_SECONDS + 10.0)
    world.run_until(world.is_complete, LIMIT)


def test_when_the_founder_loses_its_disk_before_anybody_has_the_first_model_another_run_is_founded() -> None:
    world = World(8, nodes=3, spec=spec(3))
    founder = founder_of(world)
    world.network.unpullable = {founder.member.node}
    world.begin()
    world.run_until(lambda: founder.node is not None and founder.node.ledger is not None, LIMIT)
    world.lose_disk(founder, 1.0)
    world.network.unpullable = set()
    world.run_until(world.is_complete, 120.0)


def test_a_run_that_was_given_up_here_and_begins_elsewhere_is_joined_all_the_same() -> None:
    # Two can pull from the founder and are a quorum with it; the others come in once it has begun.
    world = World(9, nodes=5, spec=spec(4))
    founder = founder_of(world)
    fetch = world.transfers.fetch
    poor = sorted(world.devices)[1:3]

    def refuse(device: Any, effect: Any) -> None:
        if device.member.node in poor and device.node.ledger is None and world.now < 30.0:
            failed = inputs.BlobFailed(effect.digest, "nobody reachable has it", invalid=False)
            world.after(0.1, world.hand, device, device.process, failed)
        else:
            fetch(device, effect)

    rig(world.transfers, "fetch", refuse)
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    assert [event.how for event in news(founder, events.RunJoined)] == ["founded"]
    assert len(runs(world)) == 1
