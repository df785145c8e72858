"""The aggregator is killed when one update is in its sum: the next one takes all updates, nothing is retrained."""

from __future__ import annotations

from typing import Any

from p2pfl import events
from p2pfl.core.effects import Tell
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import (
    LIMIT,
    at_round,
    chain,
    news,
    once,
    others,
    spec,
    trained,
    trainers,
    trainings,
)


def dies_while_collecting(down: Any) -> tuple[World, list[Device]]:
    world = World(1, spec=spec(2))
    victims: list[Device] = []

    def counts_an_update(_device: Any, effect: Any) -> Any:
        return isinstance(effect, Tell) and isinstance(effect.event, events.UpdateCounted)

    def dies(device: Device) -> None:
        victims.append(device)
        world.crash(device, down)

    once(world, counts_an_update, dies)
    world.begin()
    return world, victims


def test_aggregator_dies_while_collecting_and_nothing_is_retrained() -> None:
    world, victims = dies_while_collecting(down=100.0)

    def survivors() -> list[Device]:  # the victim is known only after the crash
        return others(world, *victims)

    world.run_until(lambda: bool(victims) and at_round(world, 1, *survivors())(), LIMIT)
    record = chain(survivors()[0])[0]
    assert record.ballot.node != victims[0].member.node
    assert trainers(record) == {device.member.node for device in survivors()}
    assert set(trainings(world, 1).values()) == {1}


def test_the_next_aggregator_is_elected_within_two_seconds() -> None:
    world, victims = dies_while_collecting(down=100.0)
    world.run_until(lambda: bool(victims), LIMIT)
    died = world.now
    (victim,) = victims

    def somebody_else_is_elected() -> Any:
        return any(
            event.node != victim.member.node
            for device in others(world, victim)
            for event in news(device, events.Elected)
        )

    world.run_until(somebody_else_is_elected, LIMIT)
    assert world.now - died < 2.0


def test_the_dead_aggregator_returns_and_catches_up() -> None:
    world, victims = dies_while_collecting(down=0.5)
    world.run_until(world.is_complete, LIMIT)
    assert set(trained(world, 1).values()) == {1}
    assert all(count == 1 for name, count in trainings(world, 1).items() if name != victims[0].name)
    assert {len(chain(device)) for device in world.devices.values()} == {3}
    assert chain(victims[0]) == chain(others(world, *victims)[0])
