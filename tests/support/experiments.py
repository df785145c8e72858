"""Runs of experiments for tests, finished without a simulation."""

from __future__ import annotations

from typing import Any

from p2pfl.experiment.file import PlannedRun
from p2pfl.experiment.results import FinishedRun
from p2pfl.learning.simulation.simulated import SimulatedRound
from tests.support.simulated import quick_run, row


def planned(seed: int = 1, **settings: str) -> PlannedRun:
    """Return a run that a grid over *settings* and seeds would have."""
    given: dict[str, Any] = {name: settings[name] for name in ("strategy", "partition") if name in settings}
    return PlannedRun({**settings, "seed": str(seed)}, quick_run(seed=seed, **given))


def finished(
    *accuracies: float, seed: int = 1, metrics: Any = None, note: str = "", **settings: str
) -> FinishedRun:
    """Return a finished run with these accuracies, one a round; *note*: no round has a new model."""
    rows: list[SimulatedRound] = [
        row(
            number,
            metrics={"accuracy": value, **(metrics or {})},
            best=max(accuracies[:number]),
            clients=(0, 1, 2),
            note=note,
        )
        for number, value in enumerate(accuracies, start=1)
    ]
    return FinishedRun(planned(seed, **settings), "accuracy", "max", tuple(rows))
