"""Federated learning with no server: see README.md beside this file for the architecture.

`import p2pfl` is light. The names of the library are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2pfl.learning.user_task import Agreed, Task

__version__ = "0.1.0"

__all__ = ["Agreed", "Task", "__version__"]

_HOMES = {"Agreed": "p2pfl.learning.user_task", "Task": "p2pfl.learning.user_task"}
"""The module of each name of the library."""


def __getattr__(name: str) -> Any:
    """Import the module of the library's *name*."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pfl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
