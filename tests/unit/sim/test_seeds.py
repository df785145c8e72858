from __future__ import annotations

from typing import Any

import pytest

from p2pfl.sim.seeds import SimulationSettings, run_seed, run_seeds
from p2pfl.sim.world import World

SMALL = SimulationSettings(nodes=3, rounds=2)


def test_a_seed_that_holds_comes_to_its_rounds_and_nothing_else() -> None:
    outcome = run_seed(SMALL, 1)
    assert (outcome.seed, outcome.rounds, outcome.violation, outcome.trace) == (1, 3, "", ())


def test_a_trace_is_kept_where_it_is_asked_for() -> None:
    assert any("Committed(" in line for line in run_seed(SMALL, 1, trace=True).trace)


def test_several_processes_come_to_the_same() -> None:
    def outcomes(jobs: Any) -> Any:
        return [outcome for batch in run_seeds(SMALL, range(5, 9), jobs) for outcome in batch]

    assert outcomes(2) == outcomes(1)
    assert [outcome.seed for outcome in outcomes(1)] == [5, 6, 7, 8]


def test_a_rule_left_out_brings_its_own_faults_unless_others_are_asked_for() -> None:
    assert SimulationSettings(without="quorum").world(1).faults.cut_every == 4.0
    assert SimulationSettings(without="quorum", faults="none").world(1).faults.until == 0.0


def test_a_violation_is_an_outcome() -> None:
    violation = run_seed(SimulationSettings(without="bytes"), 0).violation
    assert violation.startswith("possession: node-"), "devices are called by their names"


def test_a_fault_of_the_program_is_an_outcome_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_world: Any) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(World, "run", fail)
    outcome = run_seed(SMALL, 4)
    assert outcome.seed == 4
    assert outcome.violation == "a fault in the program: KeyError: 'no such thing'"


@pytest.mark.parametrize(("nodes", "batches"), [(50, 2), (100, 4), (5, 1)])
def test_a_batch_is_a_few_seconds_of_work_whatever_the_number_of_nodes(
    nodes: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "run", lambda _world: None)
    assert len(list(run_seeds(SimulationSettings(nodes=nodes), range(4)))) == batches
