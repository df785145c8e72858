"""A process is suspended for a minute (SIGSTOP) and goes on: it has missed rounds, and believes it has not."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.effects import Send
from p2pfl.messages import Accept, Accepted, Collect, Commit, Prepare, Promise
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, asking, at_round, chain, number, once, others, spec, trained


def suspended_right_after(kind: Any, seed: int, seconds: float = 60.0) -> tuple[World, Device]:
    """The first to send a *kind* of message of round 2 is suspended right then; return the world and it."""
    world = World(seed, spec=spec(12, drop_after=1000.0))
    if kind in (Prepare, Promise):
        asking(world)
    struck = []

    def suspend(device: Any) -> None:
        struck.append(device)
        world.freeze(device, seconds)

    def is_due(_device: Any, effect: Any) -> Any:
        if not isinstance(effect, Send) or not isinstance(effect.message, kind):
            return False
        message = effect.message
        return (message.record.round if isinstance(message, Commit) else message.round) == 2

    once(world, is_due, suspend)
    world.begin()
    world.run_until(lambda: bool(struck), LIMIT)
    return world, struck[0]


@pytest.mark.parametrize("kind", [Prepare, Promise, Collect, Accept, Accepted, Commit])
def test_the_others_go_on_and_it_catches_up_wherever_it_stood(
    kind: type[Accept] | type[Collect] | type[Commit] | type[Accepted] | type[Prepare] | type[Promise],
) -> None:
    world, device = suspended_right_after(kind, 51)
    world.run_for(1.0)
    before = len(chain(device))
    world.run_for(54.0)
    assert device.is_frozen
    assert len(chain(device)) == before
    assert all(len(chain(other)) > before + 2 for other in others(world, device))
    world.run_until(world.is_complete, LIMIT)
    assert len({world.checker.digest(chain(one)[-1]) for one in world.devices.values()}) == 1


def test_its_members_train_once_for_every_round_it_was_there_for() -> None:
    world, device = suspended_right_after(Accept, 52)
    world.run_until(world.is_complete, LIMIT)
    rounds = range(1, len(chain(device)))
    assert all(trained(world, round_)[device.name] <= 1 for round_ in rounds)


def test_what_it_says_of_the_old_round_is_refused_or_answered_with_records() -> None:
    world, device = suspended_right_after(Prepare, 53)
    world.run_for(59.0)
    said = []

    def watch(one: Any, effect: Any) -> None:
        if one is device and isinstance(effect, Send) and isinstance(effect.message, Accept | Commit):
            said.append(effect.message)

    at = len(chain(others(world, device)[0]))
    world.on_effect = watch
    world.run_until(at_round(world, at, device), LIMIT)
    assert said == [], "it neither proposes nor commits anything on its own for the rounds it has missed"


def test_a_short_suspension_costs_no_link() -> None:
    world, device = suspended_right_after(Accepted, 54, seconds=3.0)
    world.run_for(3.5)
    assert all(world.is_connected(device.member.node, other.member.node) for other in others(world, device))
    assert number(world, 1).is_up
    world.run_until(world.is_complete, LIMIT)
