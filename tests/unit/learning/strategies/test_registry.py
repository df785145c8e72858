from __future__ import annotations

from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.learning.strategies.registry import strategy_of
from tests.support.learning import make_spec


def test_a_strategy_is_found_by_its_name() -> None:
    assert isinstance(strategy_of(make_spec(strategy="fedavg")), FedAvg)
