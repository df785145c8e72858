"""Finds the strategy that a run's specification names."""

from __future__ import annotations

from typing import assert_never

from p2pfl.learning.strategies.elementwise import Elementwise
from p2pfl.learning.strategies.fedavg import FedAvg
from p2pfl.spec import FedAvgSpec, RunSpec


def strategy_of(spec: RunSpec) -> Elementwise:
    """Return the strategy of *spec*."""
    match spec.strategy:
        case FedAvgSpec():
            return FedAvg()
        case _:
            assert_never(spec.strategy)
