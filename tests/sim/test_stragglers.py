"""Slow devices: one that works is waited for, however slow; only silence or the cap cuts, and is told to it."""

from __future__ import annotations

from typing import Any

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.messages import Record
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from p2pfl.work import TrainingJob
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, news, number, others, spec, trainers, trainings

SLOW = 13.0
"""Times slower than the others: 4 to 26 seconds where they take 0.3 to 2. The progress checker allows 30."""


def straggling(
    seed: int, *, predicts: float, slowness: float = SLOW, **changes: float
) -> tuple[World, Device]:
    """Four nodes, one slow from round 2 on, which says when its training begins what it will take."""
    world = World(seed, nodes=4, spec=spec(4, **changes))
    slow = number(world, 1)

    def watch(device: Any, effect: Any) -> None:
        if device is slow and isinstance(getattr(effect, "event", None), events.TrainingStarted):
            ledger = known(known(device.node).ledger)
            job = TrainingJob(ledger.run, ledger.round + 1, ledger.spec, ledger.agreement, ledger.model, 0)
            progress = inputs.TrainProgress(job, 1, 100, predicts)
            world.after(0.1, lambda: world.feed(device, progress))

    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    slow.slowness, world.on_effect = slowness, watch
    return world, slow


def record_of(world: World, device: Device, round_: int) -> Record:
    world.run_until(at_round(world, round_, *others(world, device)), LIMIT)
    return chain(others(world, device)[0])[round_ - 1]


def test_a_slow_device_that_works_is_waited_for_and_counted() -> None:
    world, slow = straggling(71, predicts=40.0, round_cap=1000.0)
    for round_ in (3, 4):
        record = record_of(world, slow, round_)
        assert slow.member.node in trainers(record)
        assert record.left_out == ()


def test_one_that_takes_far_longer_than_it_predicts_is_cut_and_told_why() -> None:
    world, slow = straggling(72, predicts=2.0, slowness=1000.0, round_cap=1000.0)
    before = world.now
    record = record_of(world, slow, 3)
    assert trainers(record) == {device.member.node for device in others(world, slow)}
    (left_out,) = record.left_out
    assert (left_out.node, left_out.reason) == (slow.member.node, "its update came too late")
    assert world.now - before > 1.5 * 2.0, "never before 1.5 times its own prediction"
    world.run_until(at_round(world, 3, slow), LIMIT)
    slow.slowness = 1.0
    world.run_until(world.is_complete, LIMIT)


def test_a_late_update_is_refused_with_a_reason_its_own_node_shows_and_it_catches_up() -> None:
    world, slow = straggling(76, predicts=0.5, slowness=6.0, round_cap=1000.0)
    world.run_until(world.is_complete, LIMIT)
    told = [event for event in news(slow, events.UpdateRefused) if event.name == slow.name]
    late = [record.round for record in chain(slow) if record.left_out]
    assert [(event.round, event.reason) for event in told] == [(r, "its update came too late") for r in late]
    assert late
    assert all(trainings(world, round_)[slow.name] == 1 for round_ in (1, 2, 3, 4))


def test_fewer_than_min_updates_are_waited_for_until_the_cap() -> None:
    world, slow = straggling(74, predicts=2.0, slowness=1000.0, min_updates=4, round_cap=50.0)
    before = world.now
    record = record_of(world, slow, 3)
    assert slow.member.node not in trainers(record)
    assert world.now - before >= 50.0
