"""Everything goes wrong, all the time: the invariants hold, and the judge would see it if they did not."""

import pytest

from p2pfl.core.options import Policy
from p2pfl.sim.checker import Violation
from p2pfl.sim.faults import HEAVY, LOSSY
from p2pfl.sim.world import World


def judge(seeds, **setting):
    for seed in seeds:
        try:
            World(seed, **setting).run()
        except Violation as violation:
            pytest.fail(f"seed {seed} of {setting}: {violation}")


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_the_invariants_hold_for_five_nodes(first):
    judge(range(first, first + 20), nodes=5, rounds=5, faults=HEAVY)


@pytest.mark.parametrize("first", [100, 120])
def test_the_invariants_hold_for_five_nodes_of_which_one_loses_its_disk(first):
    judge(range(first, first + 20), nodes=5, rounds=5, faults=LOSSY)


@pytest.mark.parametrize(("nodes", "faults"), [(2, HEAVY), (3, HEAVY), (3, LOSSY), (4, LOSSY)])
def test_the_invariants_hold_for_small_federations(nodes, faults):
    judge(range(20), nodes=nodes, rounds=4, faults=faults)


def test_the_invariants_hold_when_messages_pass_through_the_real_codec():
    judge(range(200, 210), nodes=5, rounds=5, faults=HEAVY, codec=True)


def test_without_the_adoption_rule_two_records_are_chosen_for_one_round():
    policy = Policy(adopt=lambda found: None)

    def run_fifty():
        for seed in range(50):
            World(seed, nodes=5, rounds=5, faults=HEAVY, policy=policy).run()

    with pytest.raises(Violation, match="agreement"):
        run_fifty()


def test_a_seed_replays_exactly():
    traces = []
    for _ in range(2):
        world = World(11, nodes=5, rounds=3, faults=LOSSY, trace=True)
        world.run()
        traces.append(world.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


def test_another_seed_is_another_history():
    traces = []
    for seed in (11, 12):
        world = World(seed, nodes=3, rounds=2, trace=True)
        world.run()
        traces.append(world.trace)
    assert traces[0] != traces[1]
