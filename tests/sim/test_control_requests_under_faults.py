"""Operators pause and resume again and again while everything fails: the run neither forks nor stays paused."""

from typing import Any, Literal

import pytest

from p2pfl.core import inputs
from p2pfl.sim.faults import HEAVY
from p2pfl.sim.world import World
from tests.support.worlds import chain

PATIENCE = 4.0
"""Mean seconds between two control requests."""


def operate(world: Any) -> None:
    """Send control requests to random devices again and again; at the end only to resume the run."""
    device = world.random.choice(list(world.devices.values()))
    what: Literal["pause", "resume"] = "resume"
    if world.is_faulty:
        what = world.random.choice(["pause", "resume"])
    world.hand(device, device.process, inputs.OperatorRequest(what, "ada (operator)"))
    world.after(world.random.expovariate(1 / PATIENCE), operate, world)


@pytest.mark.parametrize("seed", range(12))
def test_a_run_that_is_paused_again_and_again_completes(seed: int) -> None:
    world = World(seed, rounds=6, faults=HEAVY)
    world.after(2.0, operate, world)
    world.run()


def test_such_runs_are_really_paused() -> None:
    pauses = 0
    for seed in range(6):
        world = World(seed, rounds=6, faults=HEAVY)
        world.after(2.0, operate, world)
        world.run()
        pauses += sum(record.then == "pause" for record in max(map(chain, world.devices.values()), key=len))
    assert pauses > 3
