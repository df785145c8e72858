"""One device hears the others and is not heard, or the other way round: silence ends the links, the rest go on."""

from __future__ import annotations

import pytest

from p2pfl.sim.device import Device
from p2pfl.sim.network import SILENCE
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, number, others, spec


def one_way(world: World, device: Device, *, is_mute: bool) -> set[tuple[str, str]]:
    here, rest = device.member.node, [other.member.node for other in others(world, device)]
    return {(here, node) if is_mute else (node, here) for node in rest}


@pytest.mark.parametrize("is_mute", [True, False], ids=["is not heard", "hears nobody"])
@pytest.mark.parametrize("index", [1, 2, 3, 4, 5])
def test_the_run_goes_on_without_it_and_it_catches_up_when_it_is_over(is_mute: bool, index: int) -> None:
    world = World(58, spec=spec(8, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    device = number(world, index)
    pairs = one_way(world, device, is_mute=is_mute)
    world.network.lose_messages(pairs)
    began, rounds = world.now, len(chain(others(world, device)[0]))
    world.run_until(at_round(world, rounds + 3, *others(world, device)), LIMIT)
    assert world.now - began < SILENCE + 30.0
    world.network.stop_losing_messages(pairs)
    world.run_until(world.is_complete, LIMIT)
    assert len({world.checker.digest(chain(one)[-1]) for one in world.devices.values()}) == 1


def test_two_that_hear_each_other_in_one_direction_only_still_train_together_through_the_others() -> None:
    world = World(59, spec=spec(4))
    world.begin()
    world.run_for(2.0)
    first, second = number(world, 1), number(world, 2)
    world.network.lose_messages({(first.member.node, second.member.node)})
    world.run_until(world.is_complete, LIMIT)
    counted = [{update.node for update in record.updates} for record in chain(number(world, 3))]
    assert any({first.member.node, second.member.node} <= nodes for nodes in counted)
