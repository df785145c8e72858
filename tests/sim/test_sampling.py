"""Only some members train in a round; when one of them dies another is asked."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Tell
from p2pfl.messages import Record
from p2pfl.sim.device import Device
from p2pfl.sim.faults import Faults
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, number, once, others, spec, trainers, trainings


def test_two_of_five_train_in_each_round_and_not_always_the_same() -> None:
    world = World(71, spec=spec(8, sample=2))
    world.run()
    records = [record for record in chain(number(world, 1)) if record.kind == "train"]
    assert [len(record.updates) for record in records] == [2] * 8
    assert len({entry for record in records for entry in trainers(record)}) == 5
    for round_ in range(1, 9):
        assert sum(trainings(world, round_).values()) == 2


@pytest.mark.parametrize("by", ["uniform", "examples"])
def test_a_fraction_is_of_the_members_that_the_round_has(by: str) -> None:
    world = World(75, spec=spec(8, fraction=0.6, sample_by=by))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.feed(number(world, 5), inputs.Leave())
    world.run()
    records = [record for record in chain(number(world, 1)) if record.kind == "train"]
    voters = [5, *(len(record.roster) for record in records[:-1])]
    assert {4, 5} == set(voters)
    trained = {
        size: {len(r.updates) for r, n in zip(records, voters, strict=True) if n == size} for size in (4, 5)
    }
    assert trained[4] == {2}  # 2.4, rounded
    assert 3 in trained[5]  # the leaver may be one of them, and does not train
    assert len({entry for record in records for entry in trainers(record)}) > 3


def test_all_evaluate_whoever_trains() -> None:
    world = World(72, spec=spec(3, sample=2))
    world.run()
    for record in chain(number(world, 1))[1:]:
        assert len(record.evaluations) == 5


def dies_while_training(seed: int, **changes: int) -> tuple[World, Device, Record]:
    world = World(seed, spec=spec(3, sample=2, **changes))
    victims: list[Device] = []

    def trains(_device: Any, effect: Any) -> Any:
        # The training itself may have begun before the commit of round 1.
        news = effect.event if isinstance(effect, Tell) else None
        return isinstance(news, events.TrainingStarted) and news.round == 2

    def dies(device: Device) -> None:
        victims.append(device)
        world.crash(device, 300.0)

    once(world, trains, dies)
    world.begin()
    world.run_until(lambda: bool(victims), LIMIT)
    world.run_until(at_round(world, 2, *others(world, *victims)), 100.0)
    return world, victims[0], chain(others(world, *victims)[0])[1]


def test_another_is_asked_when_a_sampled_member_dies_and_too_few_updates_would_come() -> None:
    world, victim, record = dies_while_training(73, min_updates=2)
    assert len(record.updates) == 2
    assert victim.member.node not in trainers(record)
    assert sum(trainings(world, 2).values()) == 3


def test_nobody_else_is_asked_when_what_came_is_enough() -> None:
    world, _, record = dies_while_training(73, min_updates=1)
    assert len(record.updates) == 1
    assert sum(trainings(world, 2).values()) == 2


def test_a_member_asked_later_is_heard_though_messages_are_lost() -> None:
    for seed in range(6):
        world = World(seed, spec=spec(4, sample=1, min_updates=1), faults=Faults(until=60.0, drop=0.15))
        world.run()
        seconds = [
            e.seconds for d in world.devices.values() for e in d.told if isinstance(e, events.Committed)
        ]
        assert max(seconds) < 50.0, f"seed {seed}: a round ran to its cap"
