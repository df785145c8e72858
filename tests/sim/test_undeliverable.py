"""A member from which no device can pull: it loses its candidacies in seconds, and its updates are left out by name."""

from __future__ import annotations

from typing import Any

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Aggregate
from p2pfl.sim.device import Device
from p2pfl.sim.driver import FOREVER
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, news, number, others, rig, spec, trainers

SOON = 10.0
"""Seconds a round may take although one member cannot deliver."""


def unpullable(seed: Any, index: int = 1, *, nodes: int = 3, rounds: int = 6, **changes: Any) -> Any:
    """A world in which number *index* cannot be pulled from after the first round."""
    world = World(seed, nodes=nodes, spec=spec(rounds, **changes))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    one = number(world, index)
    world.network.unpullable = {one.member.node}
    world.transfers.give_up = 0.0  # a device that dials it is refused at once
    return world, one


def test_a_run_goes_on_with_the_others_and_names_the_reason() -> None:
    for seed in range(5):
        world, one = unpullable(seed)
        began, before = world.now, len(chain(one))
        world.run_until(world.is_complete, LIMIT)
        records = chain(one)[before + 1 :]  # an update may have been pulled before
        assert world.now - began < SOON * len(records)
        trained = [record for record in records if record.kind == "train"]
        assert all(len(record.updates) == 2 for record in trained)
        assert all(one.member.node not in trainers(record) for record in trained)
        reasons = {left.reason for record in trained for left in record.left_out}
        assert reasons
        assert all(reason.startswith("its update could not be pulled") for reason in reasons)


def test_a_candidate_from_which_no_device_can_pull_steps_down_and_says_why() -> None:
    told = set()
    for seed in range(5):
        world, one = unpullable(seed)
        world.run_until(world.is_complete, LIMIT)
        for device in others(world, one):
            told |= {
                event.reason for event in news(device, events.SteppedDown) if event.aggregator == one.name
            }
    assert any(
        reason.startswith("its model could not be pulled by node-")
        and reason.endswith(": nobody reachable has it")
        for reason in told
    )


def test_a_candidate_that_stepped_down_for_it_runs_last_in_the_rounds_after() -> None:
    # What was said over a link is forgotten when the link ends. With seed 2 it ends: one message overtakes another.
    for seed in range(3, 8):
        world, one = unpullable(seed, rounds=20)
        world.run_until(world.is_complete, LIMIT)
        rounds = [
            event.round for event in news(one, events.SteppedDown) if "could not be pulled" in event.reason
        ]
        assert len(rounds) <= 1
        assert not any(event.round > rounds[0] for event in news(one, events.ElectionStarted) if rounds)


def test_when_its_bytes_can_be_had_again_its_updates_count() -> None:
    world, one = unpullable(3, rounds=30)
    world.run_until(at_round(world, 6), LIMIT)
    world.network.unpullable = set()
    before = len(chain(one))
    world.run_until(at_round(world, before + 3), LIMIT)
    assert one.member.node in trainers(chain(one)[-1])


def test_with_one_other_member_away_the_two_that_can_deliver_commit() -> None:
    world, one = unpullable(4, nodes=5, rounds=8)
    world.crash(others(world, one)[0], 10_000.0)
    began, before = world.now, len(chain(one))
    world.run_until(at_round(world, before + 4, *others(world, others(world, one)[0])), LIMIT)
    assert world.now - began < 60.0


def hang_while_aggregating(device: Device, hung: list[Device]) -> None:
    """Let the worker of *device* never answer an aggregation once *device* is in *hung*."""
    work = device.work

    def hang(effect: Any, chance: Any) -> Any:
        return (FOREVER, None) if device in hung and isinstance(effect, Aggregate) else work(effect, chance)

    rig(device, "work", hang)


def test_repeating_what_everybody_knows_does_not_keep_the_others_waiting() -> None:
    # Its worker hangs while it aggregates: the link is up and COLLECT comes every second.
    world = World(6, nodes=3, spec=spec(6, round_cap=15.0))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    hung: list[Device] = []
    for device in world.devices.values():
        hang_while_aggregating(device, hung)
    hung.append(number(world, 1))
    began, before = world.now, len(chain(number(world, 2)))
    world.run_until(at_round(world, before + 3), LIMIT)
    assert world.now - began < 4 * 30.0


def test_a_member_whose_bytes_are_never_those_it_announced_is_named_and_the_round_goes_on() -> None:
    world = World(7, nodes=3, spec=spec(6))
    liar, fetch = number(world, 2), world.transfers.fetch

    def blame(device: Any, effect: Any) -> None:
        is_of_liar = not device.disk.has(effect.digest) and effect.sources[0] == liar.member.node
        if device is not liar and not effect.durable and is_of_liar:
            failed = inputs.BlobFailed(effect.digest, "node-2 gave wrong bytes", invalid=False)
            world.after(0.1, world.hand, device, device.process, failed)
        else:
            fetch(device, effect)

    rig(world.transfers, "fetch", blame)
    world.begin()
    world.run_until(at_round(world, 5), LIMIT)
    assert world.now < 60.0
    reasons = {left.reason for record in chain(liar) for left in record.left_out}
    assert reasons == {"its update could not be pulled: node-2 gave wrong bytes"}
