"""A disk is lost right after a PROMISE that names an accepted value left: the promise counts, its giver no more."""

from __future__ import annotations

from typing import Any

from p2pfl.core.effects import Send
from p2pfl.messages import Accepted, Promise
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, number, spec


def disk_lost_after_such_a_promise(seed: int) -> Any:
    """The aggregator of round 1 dies at the first ACCEPTED; who then names its value loses its disk at once."""
    world = World(seed, spec=spec(4, drop_after=1000.0))
    found: dict[str, Any] = {}

    def watch(device: Any, effect: Any) -> None:
        message = effect.message if isinstance(effect, Send) else None
        if isinstance(message, Accepted) and "dead" not in found:
            found["dead"] = world.devices[message.ballot.node]
            world.crash(found["dead"], 8.0, power=False)
        elif isinstance(message, Promise) and message.accepted is not None and "device" not in found:
            found.update(device=device, member=device.member, value=message.accepted)
            world.lose_disk(device, 1.0)

    world.on_effect = watch
    world.begin()
    world.run_until(lambda: "device" in found, LIMIT)
    return world, found


def test_the_run_completes_and_no_second_value_is_chosen() -> None:
    for seed in range(6):
        world, found = disk_lost_after_such_a_promise(seed)
        world.run_until(world.is_complete, LIMIT)
        assert found["member"] in world.checker.votes.gone
        (first,) = {world.checker.digest(chain(device)[0]) for device in world.devices.values()}
        assert first == world.checker.votes.chosen_digest(found["value"].run, 1)


def test_the_value_it_named_is_adopted_where_another_still_has_it() -> None:
    adopted = 0
    for seed in range(6):
        world, found = disk_lost_after_such_a_promise(seed)
        world.run_until(at_round(world, 1), LIMIT)
        adopted += chain(number(world, 1))[0] == found["value"]
    assert adopted >= 1


def test_it_is_back_with_another_journal_and_the_old_one_is_in_no_later_roster() -> None:
    world, found = disk_lost_after_such_a_promise(2)
    world.run_until(world.is_complete, LIMIT)
    last = {entry.member for entry in chain(found["device"])[-1].roster}
    assert found["device"].member in last
    assert found["member"] not in last
