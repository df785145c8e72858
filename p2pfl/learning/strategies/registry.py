"""Finds the strategy that a run's specification names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.adaptive import FedAdagrad, FedAdam, FedYogi
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.learning.strategies.feddyn import FedDyn
from p2pfl.learning.strategies.fednova import FedNova
from p2pfl.learning.strategies.q_fedavg import QFedAvg
from p2pfl.learning.strategies.scaffold import Scaffold
from p2pfl.learning.strategies.server_momentum import DiLoCo, FedAvgM
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import (
    DiLoCoSpec,
    FedAdagradSpec,
    FedAdamSpec,
    FedAvgMSpec,
    FedAvgSpec,
    FedDynSpec,
    FedNovaSpec,
    FedProxSpec,
    FedYogiSpec,
    QFedAvgSpec,
    ScaffoldSpec,
    StrategySpec,
    strategy_name,
)

STRATEGIES: Mapping[type[StrategySpec], Callable[[Any], Elementwise]] = {
    FedAvgSpec: lambda _: FedAvg(),
    FedAvgMSpec: FedAvgM,
    FedAdagradSpec: FedAdagrad,
    FedAdamSpec: FedAdam,
    FedYogiSpec: FedYogi,
    QFedAvgSpec: QFedAvg,
    FedNovaSpec: lambda _: FedNova(),
    DiLoCoSpec: DiLoCo,
    FedProxSpec: lambda _: FedAvg(),  # only the local training differs
    ScaffoldSpec: Scaffold,
    FedDynSpec: FedDyn,
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
