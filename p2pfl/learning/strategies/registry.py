"""Finds the strategy that a run's specification names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import DittoSpec, FedAvgSpec, FedProxSpec, StrategySpec, strategy_name

STRATEGIES: Mapping[type[StrategySpec], Callable[[Any], Elementwise]] = {
    FedAvgSpec: lambda _: FedAvg(),
    FedProxSpec: lambda _: FedAvg(),  # only the local training differs
    DittoSpec: lambda _: FedAvg(),  # `p2pfl.learning.personal` trains the personal models
}
"""Makes the strategy of each specification. A test holds that every specification has one."""


def strategy_of(spec: RunSpec) -> Elementwise:
    """Return a new object of the strategy of *spec*, for one aggregation.

    Raises:
        TaskError: the strategy is of the user's own, and this device has no file with it.
    """
    make = STRATEGIES.get(type(spec.strategy))
    if make is None:
        raise TaskError(f"The strategy {strategy_name(spec.strategy)!r} cannot be used here.")
    return make(spec.strategy)
