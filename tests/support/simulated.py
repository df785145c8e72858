"""Short simulations for tests, computed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pfl.experiment.options import make_run
from p2pfl.learning.simulation.federation import SimulatedFederation, open_federation
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun

QUICK: dict[str, Any] = {
    "task": "digits",
    "model": "2nn",
    "partition": "iid",
    "clients": 4,
    "rounds": 2,
    "epochs": 1,
    "batch_size": 64,
    "seed": 7,
    "device": "cpu",
    "workers": 1,
}
"""Options of a run of a fraction of a second."""


def quick_run(**options: Any) -> SimulatedRun:
    """Return a short run of digits with *options*; None leaves one of `QUICK` out."""
    return make_run({**QUICK, **options})


def quick_federation(**options: Any) -> SimulatedFederation:
    """Return the data of a short run, divided."""
    return open_federation(quick_run(**options))


def table_run(table: Path, **options: Any) -> SimulatedRun:
    """Return a short run of a table with the target "target"."""
    return quick_run(task=None, model="linear", data=table, target="target", batch_size=8, **options)


def row(number: int = 1, **changes: Any) -> SimulatedRound:
    """Return a round without training."""
    values: dict[str, Any] = {
        "round": number,
        "metrics": {"accuracy": 0.5 + number / 100, "loss": 1.0},
        "seconds": 0.5,
        "clients": (0, 1),
        "attackers": (),
        "best": 0.5 + number / 100,
        "is_best": True,
        "training_loss": 2.0,
        "digest": "d" * 64,
    }
    return SimulatedRound(**{**values, **changes})
