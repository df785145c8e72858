"""Finds the strategy that a run's specification names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from p2pfl.errors import TaskError
from p2pfl.learning.strategies.adaptive import FedAdagrad, FedAdam, FedYogi
from p2pfl.learning.strategies.bulyan import Bulyan
from p2pfl.learning.strategies.centred_clipping import CentredClipping
from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.learning.strategies.feddyn import FedDyn
from p2pfl.learning.strategies.fednova import FedNova
from p2pfl.learning.strategies.geometric_median import GeometricMedian
from p2pfl.learning.strategies.krum import Krum, MultiKrum
from p2pfl.learning.strategies.median import Median
from p2pfl.learning.strategies.norm_clipping import NormClipping
from p2pfl.learning.strategies.q_fedavg import QFedAvg
from p2pfl.learning.strategies.scaffold import Scaffold
from p2pfl.learning.strategies.server_momentum import DiLoCo, FedAvgM
from p2pfl.learning.strategies.trimmed_mean import TrimmedMean
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import (
    BulyanSpec,
    CentredClippingSpec,
    DiLoCoSpec,
    DittoSpec,
    FedAdagradSpec,
    FedAdamSpec,
    FedAvgMSpec,
    FedAvgSpec,
    FedDynSpec,
    FedNovaSpec,
    FedProxSpec,
    FedYogiSpec,
    GeometricMedianSpec,
    KrumSpec,
    MedianSpec,
    MultiKrumSpec,
    NormClippingSpec,
    QFedAvgSpec,
    ScaffoldSpec,
    StrategySpec,
    TrimmedMeanSpec,
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
    DittoSpec: lambda _: FedAvg(),  # `p2pfl.learning.personal` trains the personal models
    ScaffoldSpec: Scaffold,
    FedDynSpec: FedDyn,
    MedianSpec: Median,
    TrimmedMeanSpec: TrimmedMean,
    KrumSpec: Krum,
    MultiKrumSpec: MultiKrum,
    BulyanSpec: Bulyan,
    GeometricMedianSpec: GeometricMedian,
    NormClippingSpec: NormClipping,
    CentredClippingSpec: CentredClipping,
}
"""Makes the strategy of each specification. A test holds that every specification has one."""


class OwnStrategies(Protocol):
    """Makes the strategy of the user's own: the interface of `p2pfl.learning.own.strategy.OwnStrategy`."""

    def make(self, spec: RunSpec) -> Elementwise:
        """Return a new object of the class that *spec* names.

        Raises:
            TaskError: this device has no such class.
        """

    def explain(self, error: BaseException) -> str:
        """Return why the strategy failed, with its place in the user's file; empty if it is not its fault."""

    def explain_not_finite(self) -> str:
        """Return the sentence on a result that is not finite."""


def strategy_of(spec: RunSpec) -> Elementwise:
    """Return a new object of the strategy of *spec*, for one aggregation.

    Raises:
        TaskError: the strategy is of the user's own, which `OwnStrategies` makes.
    """
    make = STRATEGIES.get(type(spec.strategy))
    if make is None:
        raise TaskError(f"The strategy {strategy_name(spec.strategy)!r} cannot be used here.")
    return make(spec.strategy)
