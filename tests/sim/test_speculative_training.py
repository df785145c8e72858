"""Members begin with a proposed model before it is committed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from p2pfl.core.effects import SaveCommit, StopTraining, Train
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, once, others, spec, trainers


def watched(seed: int, rounds: int = 4) -> tuple[World, list[Any]]:
    """A world, and what its devices' trainings and commits were, in order."""
    world, steps = World(seed, spec=spec(rounds)), []

    def watch(device: Any, effect: Any) -> None:
        if isinstance(effect, Train | StopTraining | SaveCommit):
            steps.append((device.name, effect))

    world.on_effect = watch
    return world, steps


@pytest.mark.parametrize("seed", range(3))
def test_in_calm_weather_most_trainings_begin_before_the_commit_and_none_twice(seed: int) -> None:
    world, steps = watched(seed)
    world.run()
    begun: Counter[tuple[str, int]] = Counter()
    committed: Counter[str] = Counter()
    early = 0
    for name, effect in steps:
        if isinstance(effect, SaveCommit):
            committed[name] = effect.commit.record.round
        elif isinstance(effect, Train):
            begun[name, effect.job.round] += 1
            early += effect.job.round > committed[name] + 1
    assert begun == Counter({(f"node-{n}", round_): 1 for n in range(1, 6) for round_ in range(1, 5)})
    assert early > len(begun) / 3


def test_an_aggregator_that_dies_after_its_proposal_wastes_no_speculative_training() -> None:
    # Who has its model accepts it even so, the next aggregator hears of it and proposes it again.
    world, steps = watched(5)
    victims, models = [], {}

    def third_begins_early(device: Any, effect: Any) -> Any:
        if isinstance(effect, Train) and effect.job.round == 2 and not chain(device):
            models[device.name] = effect.job.model
        return len(models) == 3

    def kill_the_aggregator(_device: Any) -> None:
        victims.append(
            next(d for d in world.devices.values() if known(d.node).status().phase == "aggregating")
        )
        world.crash(victims[0], 300.0)

    once(world, third_begins_early, kill_the_aggregator)
    world.begin()
    world.run_until(lambda: bool(victims), LIMIT)
    rest = others(world, *victims)
    world.run_until(at_round(world, 3, *rest), LIMIT)
    first, second, *_ = chain(rest[0])
    assert set(models.values()) == {first.model}
    assert {device.member.node for device in rest} <= set(trainers(second))
    begun = Counter(name for name, effect in steps if isinstance(effect, Train) and effect.job.round == 2)
    assert all(begun[device.name] == 1 for device in rest)
