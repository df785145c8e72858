"""The state of a strategy, and the memory of devices, survive every change of aggregator. The judge compares each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core import inputs
from p2pfl.core.effects import Train
from p2pfl.messages import Accept, Record
from p2pfl.sim.device import Device
from p2pfl.sim.faults import HEAVY, LOSSY, Faults
from p2pfl.sim.setting import spec_of
from p2pfl.sim.world import World
from p2pfl.strategy_specs import OwnStrategySpec, ScaffoldSpec
from tests.support.worlds import LIMIT, at_round, chain, number, once, rig, sends

STATEFUL = spec_of(6, strategy=ScaffoldSpec())
NEEDY = spec_of(4, strategy=OwnStrategySpec("needy", least=3, slots=("momentum",)))
"""It needs the updates of three members."""


def records(world: World) -> list[Record]:
    return chain(number(world, 1))


def test_states_and_memory_survive_an_aggregator_that_dies_after_its_first_accept() -> None:
    world = World(1, nodes=3, spec=STATEFUL)
    once(world, sends(Accept, 3), lambda device: world.crash(device, 2.0))
    world.begin()
    world.run_until(world.is_complete, LIMIT)
    found = records(world)
    assert len(found) == 7
    assert all(record.blobs.state for record in found)
    assert len({record.blobs.state for record in found}) == 6, "the closing record repeats the last one"
    assert found[-1].blobs == found[-2].blobs


def test_a_device_that_was_restarted_trains_with_the_memory_of_its_last_counted_update() -> None:
    world = World(2, nodes=3, spec=STATEFUL)
    jobs: list[Any] = []

    def note(device: Device, effect: Any) -> None:
        if isinstance(effect, Train) and device is number(world, 1):
            jobs.append(effect.job)

    world.on_effect = note
    world.begin()
    world.run_for(8.0)
    world.crash(number(world, 1), 0.5, power=True)
    del jobs[:]
    world.run_until(world.is_complete, LIMIT)
    node = number(world, 1).member.node
    for job in jobs:
        counted = [
            update.digest
            for record in records(world)[: job.round - 1]
            for update in record.updates
            if update.node == node
        ]
        assert job.memory == counted[-1]
    assert jobs


def test_a_round_waits_for_a_member_that_its_strategy_needs() -> None:
    world = World(3, nodes=3, spec=NEEDY)
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    world.crash(number(world, 1), 20.0, power=False)
    world.run_until(world.is_complete, LIMIT)
    found = records(world)
    assert [len(record.updates) for record in found] == [3, 3, 3, 3, 0]


def test_a_run_without_enough_members_keeps_its_model_and_pauses_until_it_is_resumed() -> None:
    world = World(4, nodes=4, spec=msgspec.structs.replace(NEEDY, rounds=8))
    failing = [number(world, 1), number(world, 2)]
    for device in failing:
        rig(device, "work", _failing(device.work))
    world.begin()
    world.run_for(60.0)
    found = records(world)
    assert [len(record.updates) for record in found] == [0, 0, 0]
    assert {record.blobs for record in found} == {found[0].blobs}
    assert [record.then for record in found] == ["go", "go", "pause"]
    assert "needy needs 3 updates, and 2 came" in found[-1].note
    assert found[-1].note.startswith("the model stayed for 3 rounds, so the run pauses; ")
    for device in failing:
        del device.__dict__["work"]
    world.feed(number(world, 3), inputs.OperatorRequest("resume", "an operator"))
    world.run_until(world.is_complete, LIMIT)
    assert [len(record.updates) for record in records(world)[3:]] == [4, 4, 4, 4, 4, 0]


def _failing(work: Any) -> Any:
    def fail(effect: Any, chance: Any) -> Any:
        seconds, result = work(effect, chance)
        if isinstance(effect, Train):
            return seconds, inputs.WorkFailed(effect, "out of memory")
        return seconds, result

    return fail


@pytest.mark.parametrize("faults", [HEAVY, LOSSY, Faults(fail=0.2)], ids=["heavy", "lossy", "failing"])
@pytest.mark.parametrize("spec", [STATEFUL, NEEDY], ids=["scaffold", "needy"])
def test_no_state_is_lost_or_confused_whatever_fails(faults: Faults, spec: Any) -> None:
    for seed in range(4):
        World(seed, nodes=4, spec=spec, faults=faults).run()
