from __future__ import annotations

from typing import Any

import pytest

from p2pfl.core.effects import SaveCommit, SavePromise, Send
from p2pfl.messages import Promise
from p2pfl.sim.driver import MAX_SPINS
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.worlds import asking, chain, number, once, spec


def crashed_at(effect_kind: type[SaveCommit] | type[SavePromise], **how: bool) -> Any:
    """A world whose first device to carry out an effect of a kind is crashed right then."""
    world = World(4, nodes=3, spec=spec(2))
    struck = []

    def strike(device: Any) -> None:
        struck.append(device)
        world.crash(device, 50.0, **how)

    once(world, lambda _device, effect: isinstance(effect, effect_kind), strike)
    world.begin()
    world.run_until(lambda: bool(struck), 100.0)
    return struck[0]


def test_a_crash_right_after_a_save_takes_it() -> None:
    device = crashed_at(SavePromise, power=False)
    assert device.disk.votes == {}


def test_a_vote_is_on_disk_before_its_answer_leaves() -> None:
    world = asking(World(4, nodes=3, spec=spec(2)))
    seen = []

    def watch(device: Any, effect: Any) -> None:
        if isinstance(effect, Send) and isinstance(effect.message, Promise):
            vote = device.disk.votes[effect.message.run]
            seen.append(vote.promised == effect.message.ballot)

    world.on_effect = watch
    world.run()
    assert seen
    assert all(seen)


def test_a_commit_may_be_put_off_and_a_crash_takes_it() -> None:
    device = crashed_at(SaveCommit, power=False)
    assert chain(device) == []


def test_the_rest_of_a_step_waits_while_its_process_is_suspended() -> None:
    world = World(4, nodes=3, spec=spec(2))
    struck = []

    def strike(device: Any) -> None:
        struck.append(device)
        world.freeze(device, 5.0)

    once(world, lambda _device, effect: isinstance(effect, SavePromise), strike)
    world.begin()
    world.run_until(lambda: bool(struck), 100.0)
    sent = []
    world.on_effect = lambda device, effect: sent.append(world.now) if device in struck else None
    at = world.now
    world.run_for(20.0)
    assert sent
    assert min(sent) == at + 5.0


def test_a_protocol_that_asks_for_ticks_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1, nodes=3)
    world.begin()
    world.run_for(2.0)
    device = number(world, 1)
    monkeypatch.setattr(device.node, "deadline", lambda: world.now)
    with pytest.raises(Violation, match="asks for ticks without end"):
        world.run_for(MAX_SPINS)
