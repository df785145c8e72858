"""All faults at once: the invariants hold. `test_mutations.py` shows that the checker would notice a violation."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.sim.faults import CRASHES, HEAVY, LOSSY, NETWORK, Faults
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.known import known


def check(seeds: range, **setting: Any) -> None:
    for seed in seeds:
        try:
            World(seed, **setting).run()
        except Violation as violation:
            pytest.fail(f"seed {seed} of {setting}: {violation}")


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.long) for first in range(20, 80, 20))]
)
def test_the_invariants_hold_for_five_nodes(first: int) -> None:
    check(range(first, first + 20), nodes=5, rounds=5, faults=HEAVY)


@pytest.mark.parametrize("faults", [NETWORK, CRASHES, LOSSY], ids=["network", "crashes", "lossy"])
def test_the_invariants_hold_with_faults_of_one_kind(faults: Faults) -> None:
    check(range(100, 120), nodes=5, rounds=5, faults=faults)


@pytest.mark.parametrize(("nodes", "faults"), [(1, HEAVY), (2, HEAVY), (3, HEAVY), (3, LOSSY), (4, LOSSY)])
def test_the_invariants_hold_for_small_federations(nodes: int, faults: Faults) -> None:
    check(range(20), nodes=nodes, rounds=4, faults=faults)


def test_the_invariants_hold_for_a_dozen_nodes() -> None:
    check(range(2), nodes=12, rounds=4, faults=HEAVY)


def test_the_invariants_hold_when_messages_pass_through_the_real_codec() -> None:
    check(range(200, 210), nodes=5, rounds=5, faults=HEAVY, codec=True)


def test_a_seed_replays_exactly() -> None:
    traces = []
    for _ in range(2):
        world = World(11, nodes=5, rounds=3, faults=LOSSY, trace=True)
        world.run()
        traces.append(known(world.trace))
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


def test_another_seed_is_another_history() -> None:
    traces = []
    for seed in (11, 12):
        world = World(seed, nodes=3, rounds=2, trace=True)
        world.run()
        traces.append(known(world.trace))
    assert traces[0] != traces[1]
