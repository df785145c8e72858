"""The aggregator dies when one other member has accepted its value: the next one proposes that very value."""

from __future__ import annotations

from typing import Any

from p2pfl import events
from p2pfl.messages import Accepted
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, news, number, once, others, sends, spec


def world_with_a_half_accepted_value(seed: int) -> tuple[World, dict[str, Any]]:
    """Right after the first ACCEPTED of round 1 left, its aggregator is killed: only the two of them hold it."""
    world = World(seed, spec=spec(2))
    found: dict[str, Any] = {}

    def kill_the_aggregator(device: Any) -> None:
        vote = next(iter(device.disk.votes.values()))
        found["value"], found["accepter"] = vote.accepted, device
        world.crash(world.devices[vote.accepted_ballot.node], 100.0)

    once(world, sends(Accepted, 1), kill_the_aggregator)
    world.begin()
    world.run_until(lambda: bool(found), LIMIT)
    return world, found


def test_a_value_accepted_by_one_survivor_is_adopted_when_a_later_aggregator_sees_it() -> None:
    for seed in range(8):
        world, found = world_with_a_half_accepted_value(seed)
        dead = world.devices[found["value"].ballot.node]
        world.run_until(at_round(world, 1, *others(world, dead)), LIMIT)
        (record,) = {chain(device)[0].model: chain(device)[0] for device in others(world, dead)}.values()
        adopted = [e for d in others(world, dead) for e in news(d, events.Proposed) if e.adopted]
        # A quorum without the one survivor that accepted may legitimately decide something else; never both.
        assert (record == found["value"]) == bool(adopted)


def test_adoption_happens_in_some_seed() -> None:
    adopted = 0
    for seed in range(8):
        world, found = world_with_a_half_accepted_value(seed)
        dead = world.devices[found["value"].ballot.node]
        world.run_until(at_round(world, 1, *others(world, dead)), LIMIT)
        adopted += chain(others(world, dead)[0])[0] == found["value"]
    assert adopted >= 2


def test_a_value_a_quorum_accepted_survives_the_death_of_all_but_its_acceptors() -> None:
    world = World(2, spec=spec(2))

    def accepters() -> Any:
        votes = [vote for device in world.devices.values() for vote in device.disk.votes.values()]
        return [vote for vote in votes if vote.round == 1 and vote.accepted is not None]

    def kill_the_aggregator(_device: Any) -> None:
        # Three of five hold the value: it is chosen, though nobody knows it yet.
        world.crash(world.devices[accepters()[0].accepted_ballot.node], 30.0)

    once(world, lambda _device, _effect: len(accepters()) == 3, kill_the_aggregator)
    world.begin()
    world.run_until(lambda: bool(world.checker.votes.chosen), LIMIT)
    (chosen,) = world.checker.votes.chosen.values()
    assert not any(commits for device in world.devices.values() for commits in device.disk.commits.values())
    world.run_until(at_round(world, 1), LIMIT)
    assert {world.checker.digest(chain(device)[0]) for device in world.devices.values()} == {chosen.digest}
    assert number(world, 1).disk.order
