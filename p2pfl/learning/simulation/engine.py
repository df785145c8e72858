"""The interface of an engine, which runs the clients of a simulation, and the engines by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from p2pfl.learning.simulation.clients import ClientJob, ClientResult, PartEvaluation, RoundStart
from p2pfl.learning.simulation.federation import SimulatedFederation


class Engine(Protocol):
    """Runs client jobs somewhere. All calls come from one thread."""

    def initial(self) -> bytes:
        """Return the file of the initial model.

        Raises:
            TaskError: the model cannot be built.
        """

    def train(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> Iterator[ClientResult]:
        """Do *jobs* and yield the result of each, in any order.

        Raises:
            TaskError: the user's code is wrong.
            WorkerError: a process of the engine has ended.
        """

    def evaluate(self, model: bytes, parts: int, /) -> list[PartEvaluation]:
        """Evaluate *model* on all *parts* of the held-out examples; return the results in their order."""

    def judge(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> list[PartEvaluation]:
        """Let the clients of *jobs* evaluate the model of *start*, each with its own personal tensors.

        Return the results in the order of *jobs*.
        """

    def close(self) -> None:
        """End what the engine has started."""


def _local(federation: SimulatedFederation) -> Engine:
    from p2pfl.learning.simulation.local_engine import LocalEngine

    return LocalEngine(federation)


def _ray(federation: SimulatedFederation) -> Engine:
    from p2pfl.learning.simulation.ray_engine import RayEngine

    return RayEngine(federation)


ENGINES: Mapping[str, Callable[[SimulatedFederation], Engine]] = {"local": _local, "ray": _ray}
"""The engines by the value of `engine`."""


def open_engine(federation: SimulatedFederation) -> Engine:
    """Return the engine of the run of *federation*."""
    return ENGINES[federation.run.engine](federation)
