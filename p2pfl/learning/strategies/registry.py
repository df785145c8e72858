"""Finds the strategy that a run's specification names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import FedAvgSpec, FedProxSpec, OwnStrategySpec, StrategySpec, strategy_name

STRATEGIES: Mapping[type[StrategySpec], Callable[[Any], Elementwise]] = {
    FedAvgSpec: lambda _: FedAvg(),
    FedProxSpec: lambda _: FedAvg(),  # only the local training differs
}
"""Makes the strategy of each specification. A test holds that every specification has one."""


class OwnStrategies(Protocol):
    """Makes the strategy of the user's own: the interface of `p2pfl.learning.own.strategy.OwnStrategy`."""

    def make(self, strategy: OwnStrategySpec) -> Elementwise:
        """Return a new object of the class that *strategy* names.

        Raises:
            TaskError: this device has no such class.
        """

    def explain(self, error: BaseException) -> str:
        """Return why the strategy failed, with its place in the user's file; empty if it is not its fault."""

    def explain_not_finite(self) -> str:
        """Return the sentence on a result that is not finite."""


def strategy_of(spec: RunSpec, own: OwnStrategies | None = None) -> Elementwise:
    """Return a new object of the strategy of *spec*, for one aggregation; *own* makes one of the user's own.

    Raises:
        TaskError: the strategy is of the user's own, and this device has no file with it.
    """
    if isinstance(spec.strategy, OwnStrategySpec) and own is not None:
        return own.make(spec.strategy)
    make = STRATEGIES.get(type(spec.strategy))
    if make is None:
        raise TaskError(f"The strategy {strategy_name(spec.strategy)!r} cannot be used here.")
    return make(spec.strategy)
