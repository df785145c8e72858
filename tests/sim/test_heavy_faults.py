"""Everything goes wrong, all the time: the invariants hold, and the judge would see it if they did not."""

import pytest

from p2pfl.core.options import Policy
from p2pfl.sim.checker import Violation
from p2pfl.sim.faults import HEAVY
from p2pfl.sim.world import World


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_the_invariants_hold_for_five_nodes(first):
    for seed in range(first, first + 20):
        try:
            World(seed, nodes=5, rounds=5, faults=HEAVY).run()
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


@pytest.mark.parametrize("nodes", [2, 3])
def test_the_invariants_hold_for_small_federations(nodes):
    for seed in range(20):
        try:
            World(seed, nodes=nodes, rounds=4, faults=HEAVY).run()
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}")


def test_a_device_alone_completes_its_run():
    world = World(1, nodes=1, rounds=3)
    world.run()
    assert world.checker.chosen.keys() == {
        (run, round_) for run, _ in world.checker.chosen for round_ in (1, 2, 3, 4)
    }


def test_without_the_adoption_rule_two_records_are_chosen_for_one_round():
    def run_seeds():
        for seed in range(50):
            World(seed, nodes=5, rounds=5, faults=HEAVY, policy=Policy(adopt=lambda found: None)).run()

    with pytest.raises(Violation, match="agreement"):
        run_seeds()


def test_a_seed_replays_exactly():
    traces = []
    for _ in range(2):
        world = World(11, nodes=5, rounds=3, faults=HEAVY, trace=True)
        world.run()
        traces.append(world.trace)
    assert traces[0] == traces[1]
