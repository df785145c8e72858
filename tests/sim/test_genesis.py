"""How a run begins: one founder, held starts, a founder that dies, two founders that meet, `--new-run`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, SaveGenesis
from p2pfl.core.founding import held_start
from p2pfl.messages import Offer
from p2pfl.schema import TensorSpec, canonical
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from p2pfl.spec import with_options
from tests.support.known import known
from tests.support.worlds import (
    LIMIT,
    at_round,
    chain,
    names,
    news,
    number,
    once,
    others,
    runs,
    spec,
    trainers,
)


def founders(world: World) -> list[Device]:
    return [
        device
        for device in world.devices.values()
        if any(event.how == "founded" for event in news(device, events.RunJoined))
    ]


def test_the_lowest_node_id_founds_and_the_others_join() -> None:
    world = World(61)
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    (founder,) = founders(world)
    assert founder.member.node == min(world.devices)
    assert {event.how for d in others(world, founder) for event in news(d, events.RunJoined)} == {"joined"}


def test_nothing_begins_before_enough_are_there() -> None:
    world = World(62, nodes=3)
    for device in [number(world, 1), number(world, 2)]:
        world.start(device)
    world.run_for(120.0)
    assert runs(world) == set()
    assert news(number(world, 1), events.Waiting)[-1].reason == "2 of 3 nodes are here"
    world.start(number(world, 3))
    world.run_until(world.is_complete, LIMIT)


def test_one_operator_holds_the_start_for_all() -> None:
    world = World(63, nodes=3)
    holder = number(world, 3)
    holder.options = msgspec.structs.replace(holder.options, wait=True)
    world.begin()
    world.run_for(60.0)
    assert runs(world) == set()
    assert news(number(world, 1), events.Waiting)[-1].reason == held_start("node-3")
    world.feed(holder, inputs.Go())
    world.run_until(world.is_complete, LIMIT)


@pytest.mark.parametrize("offers", [1, 2, 4])
def test_a_founder_that_dies_right_after_its_offers_is_not_needed(offers: int) -> None:
    world = World(64)
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, min_nodes=4)
    seen = []

    def nth_offer(device: Any, effect: Any) -> Any:
        if sends_offer(device, effect):
            seen.append(device)
        return len(seen) == offers

    once(world, nth_offer, lambda device: world.crash(device, 200.0))
    world.begin()
    world.run_until(lambda: len(seen) == offers, LIMIT)
    founder = seen[0]
    world.run_until(at_round(world, 2, *others(world, founder)), 150.0)
    world.run_until(at_round(world, 6), LIMIT)
    assert len({chain(device)[0].run for device in world.devices.values()}) == 1


def sends_offer(_device: Device, effect: AnyEffect) -> bool:
    return isinstance(getattr(effect, "message", None), Offer)


def test_a_founder_that_dies_before_any_offer_leaves_the_others_free() -> None:
    world = World(65)
    once(world, lambda _d, effect: isinstance(effect, SaveGenesis), lambda device: world.crash(device, 5.0))
    world.run()
    assert len({chain(device)[0].run for device in world.devices.values()}) == 1


def test_two_runs_founded_in_two_halves_meet_at_round_0_and_become_one() -> None:
    world = World(66, nodes=4)
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, min_nodes=2)
    world.cut({number(world, 1).member.node, number(world, 2).member.node})
    world.begin()

    def heal_at_the_second_genesis(_device: Any, effect: Any) -> Any:
        return isinstance(effect, SaveGenesis) and len({*runs(world)}) == 2

    once(world, heal_at_the_second_genesis, lambda _device: world.heal())
    world.run_until(world.is_complete, LIMIT)
    assert len(founders(world)) == 2
    assert len(runs(world)) == 1


def test_two_runs_with_committed_rounds_do_not_mix_and_both_say_so() -> None:
    world = World(67, nodes=4, spec=spec(30))
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, min_nodes=2)
    world.cut({number(world, 1).member.node, number(world, 2).member.node})
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.heal()
    world.run_for(5.0)
    assert len(runs(world)) == 2
    for device in world.devices.values():
        assert any("neither moves" in notice.text for notice in news(device, events.Notice))


def test_a_device_whose_model_differs_stays_out_naming_the_tensor_and_the_rest_go_on() -> None:
    world = World(68, nodes=3)
    odd = world.add_device(3, 3)
    assert odd.member.node != min(world.devices), "it must not be the founder"
    odd.schema = canonical([TensorSpec("weight", "F32", (3,))])
    world.begin()
    rest = others(world, odd)
    world.run_until(lambda: all(device.exit is not None for device in rest), LIMIT)
    assert {known(device.exit).code for device in rest} == {0}
    assert odd.exit is None
    words = "weight F32[2] there is weight F32[3] here"
    assert any(words in notice.text for notice in news(odd, events.Notice))
    assert any(words in waiting.reason for waiting in news(odd, events.Waiting))
    for device in rest:
        assert any(words in notice.text for notice in news(device, events.Notice))
    assert all(odd.member.node not in trainers(record) for record in chain(rest[0]))


def test_options_that_differ_from_the_runs_are_named_and_the_runs_hold() -> None:
    world = World(69, nodes=3, spec=spec(2))
    for device in world.devices.values():
        mine = with_options(device.options.spec, epochs=9, learning_rate=0.5)
        if device.member.node != min(world.devices):
            device.options = msgspec.structs.replace(
                device.options, spec=mine, given=frozenset({"epochs", "learning_rate"})
            )
    world.begin()
    world.run_for(1.0)
    world.operators.start(world.devices[min(world.devices)])
    world.run_until(world.is_complete, LIMIT)
    ignored, *_ = news(others(world, *founders(world))[0], events.OptionsIgnored)
    assert set(ignored.differences) == {"epochs 9 (the run has 1)", "learning rate 0.5 (the run has 0.1)"}
    assert {len(chain(device)) for device in world.devices.values()} == {3}


def test_new_run_turns_away_from_a_finished_one() -> None:
    world = World(70, nodes=3, spec=spec(1))
    world.run()
    first = runs(world)
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, new_run=True)
        world.start(device)
        device.options = msgspec.structs.replace(device.options, new_run=False)
    world.run_until(lambda: world.is_complete() and not (runs(world) & first), LIMIT)
    assert len(runs(world)) == 1
    assert all(first <= device.disk.closed for device in world.devices.values())
    assert names(chain(number(world, 1))[-1]) == {"node-1", "node-2", "node-3"}
