"""Federated learning with no server: see README.md beside this file for the architecture.

`import p2pfl` is light. The names of the library are imported when they are first used. `examples/README.md`
shows how they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Agreed": "p2pfl.learning.own.interface",
    "Certificates": "p2pfl.library.certificates",
    "ChildNode": "p2pfl.child_node",
    "CredentialsError": "p2pfl.errors",
    "DataDirectoryError": "p2pfl.errors",
    "Elementwise": "p2pfl.learning.strategies.elementwise",
    "ExitCode": "p2pfl.exit_codes",
    "LoadedModel": "p2pfl.learning.exports.exported",
    "NetworkError": "p2pfl.errors",
    "Node": "p2pfl.library.node",
    "P2pflError": "p2pfl.errors",
    "Prediction": "p2pfl.learning.exports.exported",
    "RoundHistory": "p2pfl.library.history",
    "RoundRow": "p2pfl.events",
    "SimulatedRound": "p2pfl.learning.simulation.simulated",
    "SimulationResult": "p2pfl.experiment.result",
    "Task": "p2pfl.learning.own.interface",
    "TaskError": "p2pfl.errors",
    "TrainingRound": "p2pfl.learning.scripts.rounds",
    "UpdatePieces": "p2pfl.learning.strategies.elementwise",
    "UpdateTable": "p2pfl.learning.strategies.elementwise",
    "UserError": "p2pfl.errors",
    "WorkerError": "p2pfl.errors",
    "events": "p2pfl",
    "frame": "p2pfl.library.history",
    "history": "p2pfl.library.history",
    "issue": "p2pfl.library.certificates",
    "load": "p2pfl.learning.exports.exported",
    "node": "p2pfl.child_node",
    "rounds": "p2pfl.learning.scripts.rounds",
    "simulate": "p2pfl.experiment.simulate",
}
"""The module of each name of the library; a name of this package itself is a module.

`__init__.pyi` shows the names to type checkers."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import the module of the library's *name*."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pfl' has no attribute {name!r}")
    if _HOMES[name] == __name__:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
