"""Finds the local part of the strategy that a run's specification names.

It is separate from the interface (`p2pfl.learning.strategies.local`), which the training imports: some of
the rules use the training themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pfl.learning.strategies.feddyn import FedDynRule
from p2pfl.learning.strategies.fedprox import FedProxRule
from p2pfl.learning.strategies.local import LocalRule, LocalStart
from p2pfl.learning.strategies.q_fedavg import QFedAvgRule
from p2pfl.learning.strategies.scaffold import ScaffoldRule
from p2pfl.strategy_specs import FedDynSpec, FedProxSpec, QFedAvgSpec, ScaffoldSpec, StrategySpec

LOCAL_RULES: Mapping[type[StrategySpec], Callable[[LocalStart], LocalRule]] = {
    FedProxSpec: FedProxRule,
    ScaffoldSpec: ScaffoldRule,
    FedDynSpec: FedDynRule,
    QFedAvgSpec: QFedAvgRule,
}
"""Makes the local rule of each strategy that has one (`p2pfl.strategy_specs.trains_differently`)."""


def local_rule(start: LocalStart) -> LocalRule | None:
    """Return the local rule of the strategy of a run; None if it does not change the training."""
    make = LOCAL_RULES.get(type(start.spec.strategy))
    return None if make is None else make(start)
