"""A member loses its data directory: it comes back as a learner, votes nothing, then takes its old seat."""

from __future__ import annotations

from typing import Any

from p2pfl import events
from p2pfl.core.effects import Send
from p2pfl.messages import Accepted, Member, Promise
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, news, number, spec


def lose_a_disk(seed: int) -> tuple[World, Device, Member]:
    world = World(seed, spec=spec(8))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    device = number(world, 3)
    old = device.member
    world.lose_disk(device, 1.0)
    return world, device, old


def test_it_is_a_member_again_with_its_old_slot_and_its_new_journal() -> None:
    world, device, old = lose_a_disk(31)
    slot = next(entry.slot for entry in chain(number(world, 1))[0].roster if entry.node == old.node)
    world.run_until(world.is_complete, LIMIT)
    assert news(device, events.RunJoined)[-1].how == "learner"
    (entry,) = [entry for entry in chain(device)[-1].roster if entry.node == old.node]
    assert entry.journal == device.member.journal != old.journal
    assert entry.slot == slot
    assert all(len(record.roster) == 5 for record in chain(device))


def test_it_does_not_vote_before_a_roster_has_its_new_journal() -> None:
    world, device, _ = lose_a_disk(32)
    votes = []

    def watch(sender: Any, effect: Any) -> None:
        if sender is device and isinstance(effect, Send) and isinstance(effect.message, Promise | Accepted):
            votes.append(effect.message.round)

    world.on_effect = watch
    world.run_until(world.is_complete, LIMIT)
    seated = next(r.round for r in chain(device) if any(e.journal == device.member.journal for e in r.roster))
    assert votes
    assert min(votes) > seated


def test_the_round_does_not_wait_for_the_member_that_is_no_more() -> None:
    world, device, _ = lose_a_disk(33)
    world.run_until(lambda: bool(news(device, events.RunJoined)[1:]), LIMIT)
    back = world.now
    rounds = len(chain(number(world, 1)))
    world.run_until(at_round(world, rounds + 1, number(world, 1)), LIMIT)
    # The node is linked and its old seat still in the roster: without care the round would run to its cap.
    assert world.now - back < 15.0
