from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.effects import Tell
from p2pfl.sim.operators import LEARNING_RATES, learning_rates, with_learning_rate
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import chain, news, number


def test_in_half_of_the_worlds_no_options_are_given_and_in_a_quarter_different_ones() -> None:
    sizes = Counter(len(learning_rates(seed, 3)) for seed in range(400))
    assert set(sizes) == {0, 1, 2}
    assert 160 < sizes[0] < 240
    assert 60 < sizes[2] < 140
    assert all(len(set(rates.values())) == len(rates) for rates in map(learning_rates, range(400), [3] * 400))
    assert not any(learning_rates(seed, 1) for seed in range(100))


def world_with(given: int) -> World:
    """A world in which so many devices were given options."""
    seed = next(seed for seed in range(100) if len(learning_rates(seed, 3)) == given)
    return World(seed, nodes=3, rounds=2, with_options=True)


@pytest.mark.parametrize("given", [0, 1])
def test_without_a_difference_nobody_has_to_decide(given: int) -> None:
    world = world_with(given)
    world.run()
    (rate,) = {joined.spec.training.learning_rate for joined in news(number(world, 1), events.RunJoined)}
    assert (rate in LEARNING_RATES) == bool(given)


def test_where_options_differ_somebody_decides_and_the_run_begins() -> None:
    world = world_with(2)
    waiting = next(device for device in world.devices.values() if device.options.given)
    world.run()
    assert any("--lr is " in event.reason for event in news(waiting, events.Waiting))
    assert len({chain(device)[0].run for device in world.devices.values()}) == 1


def test_a_run_without_the_options_of_a_member_is_a_violation() -> None:
    world = world_with(0)
    world.run()
    joined = next(
        event
        for device in world.devices.values()
        for event in news(device, events.RunJoined)
        if event.how == "founded"
    )
    founder = next(device for device in world.devices.values() if joined in device.told)
    world.operators.check(founder, Tell(joined))
    other = next(device for device in world.devices.values() if device is not founder)
    other.options = with_learning_rate(other.options, 0.5)
    with pytest.raises(Violation, match=f"without the learning rate that {other.name} was given"):
        world.operators.check(founder, Tell(joined))
    world.operators.check(founder, Tell(msgspec.structs.replace(joined, how="joined")))
    assert known(founder.exit).code == 0
    world.start(founder)
    world.operators.start(founder)
    world.operators.check(founder, Tell(joined))


def test_a_device_that_is_off_cannot_be_told_to_start() -> None:
    world = world_with(0)
    world.operators.start(number(world, 1))
    assert number(world, 1).node is None
