"""The interface of a tracker, and the run that it writes about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from p2pfl.spec import RunSpec, shown_options
from p2pfl.strategy_specs import strategy_name, strategy_options
from p2pfl.tracking.measures import Measurement

SHORT = 8
"""Characters of a run's id in names for people."""


class TrackedRun(msgspec.Struct, frozen=True):
    """A run as one node sees it."""

    id: str
    node: str
    """The name of the node that writes."""
    spec: RunSpec

    @property
    def label(self) -> str:
        """A name that differs between runs, and between the nodes of a run."""
        return f"{self.id[:SHORT]}-{self.node}"

    @property
    def options(self) -> Mapping[str, str]:
        """The options of the run as texts; those of its strategy have names such as "strategy.mu"."""
        strategy = self.spec.strategy
        options = shown_options(self.spec) | {"strategy": strategy_name(strategy)}
        options |= {f"strategy.{name}": value for name, value in strategy_options(strategy).items()}
        return {name: str(value) for name, value in options.items()}


class Tracker(Protocol):
    """Writes measured values somewhere. All calls come from one thread, which may wait and may fail."""

    def begin(self, run: TrackedRun, /) -> None:
        """Write about *run* from now on; called before the first values, and again for another run."""

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        """Write *values*, known since *time* (seconds since the epoch), durably enough for a reader."""

    def close(self) -> None:
        """Finish; nothing is written afterwards."""
