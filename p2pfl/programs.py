"""Starting our own programs as processes: they are found wherever p2pfl runs from, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
"""The folder `p2pfl` was imported from: child processes run the same code, whatever folder this one was
started in."""

PYTHON = (sys.executable, "-P", "-m")
"""`-P`: a `random.py` in the folder a command was started from must not be imported."""


def environment() -> dict[str, str]:
    """Return this process's environment, in which p2pfl is also found where it is not installed."""
    inherited = os.environ.get("PYTHONPATH")
    search = f"{PACKAGE_ROOT}{os.pathsep}{inherited}" if inherited else str(PACKAGE_ROOT)
    return {**os.environ, "PYTHONPATH": search}


def apart() -> dict[str, Any]:
    """Return what makes `subprocess.Popen` start a process that this terminal's Ctrl-C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
