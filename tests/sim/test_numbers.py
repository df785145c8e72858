"""Rounds of training are numbered without a gap, whatever a run went through, and never beyond those it has."""

from __future__ import annotations

import re

import msgspec

from p2pfl import events
from p2pfl.events import Published
from p2pfl.observe.render import row_of
from p2pfl.observe.state import State
from p2pfl.runtime.observing.publish import Publisher
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, news, number, spec


def published(device: Device) -> list[Published]:
    """What *device* told over all its starts, as its publisher would have told it."""
    told: list[Published] = []
    publisher = Publisher(lambda: 0.0)
    publisher.add(told.append)
    for event in device.told:
        publisher.publish(event)
    return told


def extended(seed: int, rounds: int, more: int) -> World:
    """A run of *rounds*, finished, and started again with *more* by one of its members."""
    world = World(seed, spec=spec(rounds))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, spec=spec(more), given=frozenset({"rounds"}))
        world.start(device)
    world.run_until(world.is_complete, LIMIT)
    return world


def test_an_extended_run_numbers_its_rounds_on_in_every_line() -> None:
    world = extended(61, 3, 6)
    for device in world.devices.values():
        items = published(device)
        trained = [
            one for one in items if isinstance(one.event, events.Committed) and one.event.kind == "train"
        ]
        assert [one.training_round for one in trained] == [1, 2, 3, 4, 5, 6]
        lines = [row.text for row in map(row_of, items) if row is not None]
        numbers = [int(found) for line in lines for found in re.findall(r"\bround (\d+)", line)]
        assert set(numbers) == {1, 2, 3, 4, 5, 6}


def test_a_screen_behind_an_extension_has_all_rounds_and_is_complete_with_the_last() -> None:
    world = extended(62, 3, 5)
    state = State()
    for item in published(number(world, 1)):
        state.apply(item)
    assert state.rounds.numbers() == [1, 2, 3, 4, 5]
    assert (state.phase, state.trained, state.target_rounds) == ("complete", 5, 5)
    assert not any(one.is_provisional for one in state.rounds)


def test_the_accuracy_at_the_end_is_the_committed_one_of_the_last_model() -> None:
    world = World(63, spec=spec(3))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    for device in world.devices.values():
        (ended,) = news(device, events.RunEnded)
        committed = [one for one in news(device, events.EvaluationFinished) if one.committed]
        assert (ended.primary_value, ended.rounds, ended.planned) == (committed[-1].primary_value, 3, 3)
