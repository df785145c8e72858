from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.learning.strategies.registry import STRATEGIES, strategy_of
from p2pfl.strategy_specs import OwnStrategySpec, StrategySpec, state_slots
from tests.support.learning import make_spec

ELSEWHERE = {"own"}
"""Tags of strategies that are not in the registry: their classes are in files of the user's own."""

KINDS = {str(kind.__struct_config__.tag): kind for kind in get_args(StrategySpec)}
SPECS = [kind() for tag, kind in KINDS.items() if tag not in ELSEWHERE]


def test_every_specification_has_a_strategy_but_those_of_the_users_own() -> None:
    assert {tag for tag, kind in KINDS.items() if kind not in STRATEGIES} == ELSEWHERE


@pytest.mark.parametrize("strategy", SPECS, ids=lambda one: str(one.__struct_config__.tag))
def test_a_strategy_has_the_slots_of_its_specification(strategy: StrategySpec) -> None:
    found = strategy_of(msgspec.structs.replace(make_spec(), strategy=strategy))
    assert found.slots == state_slots(strategy)
    assert len(found.initial_state()) == len(found.slots)


def test_a_strategy_is_found_by_its_name() -> None:
    assert isinstance(strategy_of(make_spec()), FedAvg)


def test_a_strategy_of_the_users_own_that_is_not_here_is_told() -> None:
    spec = msgspec.structs.replace(make_spec(), strategy=OwnStrategySpec("mine.py:Cautious"))
    with pytest.raises(TaskError, match=r"The strategy 'mine\.py:Cautious' cannot be used here"):
        strategy_of(spec)
