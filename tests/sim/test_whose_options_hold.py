"""Before a run: devices with different options, an operator who decides, and devices that found at once."""

from __future__ import annotations

import msgspec

from p2pfl import events
from p2pfl.core.effects import SaveGenesis
from p2pfl.sim.device import Device
from p2pfl.sim.operators import with_learning_rate
from p2pfl.sim.setting import SETTINGS
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, chain, news, number, once, runs, spec


def world_of(seed: int, rates: dict[int, float], nodes: int = 3) -> World:
    """A calm world in which devices, by their number from 1, were given learning rates."""
    world = World(seed, nodes=nodes, spec=spec(2))
    for index, rate in rates.items():
        device = number(world, index)
        device.options = with_learning_rate(device.options, rate)
    return world


def learning_rate(world: World) -> float:
    """The learning rate of the only run."""
    (rate,) = {
        joined.spec.training.learning_rate
        for device in world.devices.values()
        for joined in news(device, events.RunJoined)
    }
    return rate


def last_waiting(device: Device) -> events.Waiting:
    return news(device, events.Waiting)[-1]


def test_the_options_of_the_one_device_that_was_given_any_hold_whichever_it_is() -> None:
    for index in (1, 2, 3):
        world = world_of(81, {index: 0.5})
        world.run()
        assert learning_rate(world) == 0.5
        for device in world.devices.values():
            assert any(event.options == "--lr 0.5" for event in news(device, events.Waiting))
            assert not news(device, events.OptionsIgnored)


def test_two_devices_with_different_options_wait_for_a_person_and_all_say_so() -> None:
    world = world_of(82, {1: 0.25, 3: 0.5})
    world.operators.begin = lambda: None  # type: ignore[method-assign]
    world.begin()
    world.run_for(60.0)
    assert runs(world) == set()
    for device in world.devices.values():
        waiting = last_waiting(device)
        assert waiting.is_mismatch
        assert waiting.reason.startswith(
            ("--lr is 0.25 on node-1 and 0.5 on node-3; ", "--lr is 0.5 on node-3")
        )
    world.operators.start(number(world, 3))
    world.run_until(world.is_complete, LIMIT)
    assert learning_rate(world) == 0.5
    assert [device.name for device in world.devices.values() if news(device, events.OptionsIgnored)] == [
        "node-1"
    ]


def test_a_start_on_a_device_without_options_gives_its_defaults() -> None:
    world = world_of(83, {1: 0.25, 3: 0.5})
    world.begin()
    world.run_for(4.0)
    world.operators.start(number(world, 2))
    world.run_until(world.is_complete, LIMIT)
    assert learning_rate(world) == number(world, 2).options.spec.training.learning_rate


def test_of_two_starts_the_last_one_holds() -> None:
    world = world_of(84, {1: 0.25, 3: 0.5})
    late = number(world, 2)
    world.start(number(world, 1))
    world.start(number(world, 3))
    world.run_for(5.0)
    for index in (1, 3, 1):
        world.operators.start(number(world, index))
        world.run_for(1.0)
    assert last_waiting(number(world, 3)).options_of == "node-1"
    world.start(late)
    world.run_until(world.is_complete, LIMIT)
    assert learning_rate(world) == 0.25


def test_a_device_that_decided_and_is_gone_decides_nothing_any_more() -> None:
    world = world_of(85, {1: 0.25, 3: 0.5})
    world.start(number(world, 1))
    world.start(number(world, 2))
    world.run_for(5.0)
    world.operators.start(number(world, 1))
    world.run_for(1.0)
    assert last_waiting(number(world, 2)).options_of == "node-1"
    world.crash(number(world, 1), 1000.0)
    world.start(number(world, 3))
    world.run_for(5.0)
    assert last_waiting(number(world, 2)).options_of == "node-3"


def test_where_all_are_there_the_run_begins_without_waiting_for_a_steady_moment() -> None:
    founded: list[float] = []
    world = world_of(86, {})
    once(
        world, lambda _device, effect: isinstance(effect, SaveGenesis), lambda _one: founded.append(world.now)
    )
    for device in world.devices.values():
        world.start(device)
    world.run_until(lambda: bool(founded), LIMIT)
    assert founded[0] < SETTINGS.steady


def test_two_founders_that_saw_different_sets_become_one_run() -> None:
    """Each pair sees only itself, takes itself for complete, and founds at once."""
    world = World(88, nodes=4, spec=spec(2))
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, min_nodes=2, listed=2)
    world.cut({number(world, 1).member.node, number(world, 2).member.node})
    once(
        world,
        lambda _device, effect: isinstance(effect, SaveGenesis) and len(runs(world)) == 2,
        lambda _one: world.heal(),
    )
    for device in world.devices.values():
        world.start(device)
    world.run_until(world.is_complete, LIMIT)
    assert len(runs(world)) == 1
    assert {known(device.exit).code for device in world.devices.values()} == {0}
    assert len({chain(device)[-1].model for device in world.devices.values()}) == 1
