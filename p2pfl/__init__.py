"""Federated learning with no server: see README.md beside this file for the architecture.

`import p2pfl` is light. The names of the library are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Agreed": "p2pfl.learning.user_task",
    "ChildNode": "p2pfl.child_node",
    "LoadedModel": "p2pfl.learning.exported",
    "Prediction": "p2pfl.learning.exported",
    "Task": "p2pfl.learning.user_task",
    "TrainingRound": "p2pfl.learning.rounds",
    "load": "p2pfl.learning.exported",
    "node": "p2pfl.child_node",
    "rounds": "p2pfl.learning.rounds",
}
"""The module of each name of the library. `__init__.pyi` shows the names to type checkers."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import the module of the library's *name*."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pfl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
