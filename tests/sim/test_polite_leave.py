"""A member leaves politely: a commit drops it first, then it exits with its own code."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.exit_codes import ExitCode
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, others, rig, spec


def leave(world: World, device: Device) -> None:
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.feed(device, inputs.Leave())


def test_a_leaver_is_dropped_by_a_commit_before_it_exits() -> None:
    world = World(21, spec=spec(5))
    leaver = number(world, 2)
    leave(world, leaver)
    world.run_until(lambda: leaver.exit is not None, LIMIT)
    assert known(leaver.exit).code == ExitCode.LEFT
    assert int(ExitCode.LEFT) == 3
    assert leaver.name not in names(chain(leaver)[-1])
    assert "left: node-2" in chain(leaver)[-1].note
    rest = others(world, leaver)
    world.run_until(lambda: all(device.exit is not None for device in rest), LIMIT)
    assert {known(device.exit).code for device in rest} == {0}
    assert all(news(device, events.PeerLeaving) for device in rest)


def test_a_leaver_votes_until_it_is_dropped() -> None:
    # Of two, the other cannot commit alone: without the leaver's vote it would never be dropped.
    world = World(22, nodes=2, spec=spec(4))
    leaver = number(world, 1)
    leave(world, leaver)
    world.run_until(lambda: leaver.exit is not None, LIMIT)
    assert names(chain(leaver)[-1]) == {"node-2"}
    world.run_until(lambda: number(world, 2).exit is not None, LIMIT)
    assert known(number(world, 2).exit).code == 0


def test_the_operator_is_told_what_leaving_means() -> None:
    world = World(23, spec=spec(5))
    leave(world, number(world, 2))
    text = news(number(world, 2), events.Notice)[-1].text
    assert text == "leaving with the next commit; the 4 others go on and tolerate the loss of 1"


@pytest.mark.parametrize("seed", range(5))
def test_leavers_serve_the_model_until_those_who_stay_can_go_on_without_one_of_them(seed: int) -> None:
    # Of five two leave, and they are two of the three that accepted the record which drops them.
    world = World(seed, spec=spec(8))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    first, *late = [number(world, index) for index in (1, 2, 3)]
    leavers = [number(world, 4), number(world, 5)]
    fetch = world.transfers.fetch

    def delay(device: Any, effect: Any) -> None:
        world.after(6.0 if device in late and effect.durable else 0.0, fetch, device, effect)

    rig(world.transfers, "fetch", delay)
    for device in leavers:
        world.feed(device, inputs.Leave())
    world.run_until(lambda: len(chain(first)[-1].roster) == 3, LIMIT)
    world.crash(first, 10_000.0)
    assert all(device.is_up for device in leavers), "nobody who stays has the model yet"
    world.run_until(lambda: all(device.exit is not None for device in leavers), world.now + 10.0)
    assert {known(device.exit).code for device in leavers} == {ExitCode.LEFT}
    before = max(len(chain(device)) for device in late)
    world.run_until(at_round(world, before + 2, *late), world.now + 60.0)


def test_when_everybody_leaves_everybody_gets_away() -> None:
    world = World(24, nodes=3, spec=spec(5))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    for device in world.devices.values():
        world.feed(device, inputs.Leave())
    world.run_until(lambda: all(device.exit is not None for device in world.devices.values()), LIMIT)
    assert {known(device.exit).code for device in world.devices.values()} == {ExitCode.LEFT}


def test_a_device_in_no_run_leaves_at_once() -> None:
    world = World(25, nodes=3)
    lonely = number(world, 1)
    world.start(lonely)
    world.feed(lonely, inputs.Leave())
    assert known(lonely.exit).code == ExitCode.LEFT
