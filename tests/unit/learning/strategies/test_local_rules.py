from __future__ import annotations

from typing import get_args

import pytest

from p2pfl.learning.strategies.local_rules import LOCAL_RULES, local_rule
from p2pfl.learning.strategies.scaffold import ScaffoldRule
from p2pfl.strategy_specs import DittoSpec, OwnStrategySpec, StrategySpec, trains_differently
from tests.support.drift import Device, Small

SPECS = [kind() for kind in get_args(StrategySpec) if kind is not OwnStrategySpec]


@pytest.mark.parametrize("strategy", SPECS, ids=lambda one: type(one).__name__)
def test_a_strategy_has_a_local_rule_if_its_specification_says_so(strategy: StrategySpec) -> None:
    is_second = isinstance(strategy, DittoSpec)  # its rule is that of a second training
    assert (type(strategy) in LOCAL_RULES or is_second) == trains_differently(strategy)


def test_the_rule_of_a_run_is_that_of_its_strategy() -> None:
    assert isinstance(local_rule(Device().start(Small(), "scaffold")), ScaffoldRule)


def test_fedavg_has_no_rule() -> None:
    assert local_rule(Device().start(Small(), "fedavg")) is None
