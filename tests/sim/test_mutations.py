"""Mutations: with any one rule left out, the checker finds a violation of the stated kind within the stated seeds."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.sim.faults import HEAVY
from p2pfl.sim.rules import RULES
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World

ROUNDS = 5


def kinds_found(name: str) -> Any:
    """Run seeds from 0 until one breaks the invariant the rule protects; return all that were broken."""
    rule, found = RULES[name], []
    for seed in range(rule.seeds):
        try:
            World(seed, rounds=ROUNDS, faults=rule.faults, without=rule).run()
        except Violation as violation:
            found.append(violation.kind)
        if rule.kind in found:
            break
    return found


@pytest.mark.parametrize("name", RULES)
def test_without_this_rule_a_violation_of_its_kind_is_found(name: str) -> None:
    found = kinds_found(name)
    assert RULES[name].kind in found, f"{RULES[name].seeds} seeds without the rule '{name}' broke {found}"


@pytest.mark.parametrize("name", RULES)
def test_with_all_rules_the_same_faults_break_nothing(name: str) -> None:
    for seed in range(3):
        World(seed, rounds=ROUNDS, faults=RULES[name].faults).run()


@pytest.mark.nightly
@pytest.mark.parametrize("nodes", [3, 4, 5, 7])
def test_a_forgotten_lowest_ballot_is_found_among_all_other_faults_too(nodes: Any) -> None:
    for seed in range(200):
        try:
            World(seed, nodes=nodes, rounds=10, faults=HEAVY, without=RULES["lowest-promise"]).run()
        except Violation as violation:
            if violation.kind == "ballot":
                return
    pytest.fail(f"200 seeds of {nodes} nodes found nothing")
