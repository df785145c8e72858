"""Starts this project's programs as processes.

They import the same p2pfl as this process, whether or not it is installed, and nothing from the current
folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
"""The folder from which `p2pfl` was imported."""

PYTHON = (sys.executable, "-P", "-m")
"""Starts a Python module. `-P` excludes the current folder from imports: it may have a `random.py`."""


def environment() -> dict[str, str]:
    """Return this process's environment variables with a `PYTHONPATH` that has p2pfl first."""
    inherited = os.environ.get("PYTHONPATH")
    search = f"{PACKAGE_ROOT}{os.pathsep}{inherited}" if inherited else str(PACKAGE_ROOT)
    return {**os.environ, "PYTHONPATH": search}


def detached() -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` that shield the process from this terminal's Ctrl-C."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def ending_signals() -> list[signal.Signals]:
    """Return the signals with which people end a program: SIGINT, SIGTERM, and SIGHUP of a closed terminal.

    A SIGHUP that is ignored, as with `nohup`, is none of them: the program is to outlive its terminal.
    """
    hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    is_left_out = hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if hang_up is None or is_left_out else [hang_up])]


def start(
    *words: str, variables: Mapping[str, str] | None = None, **settings: Any
) -> subprocess.Popen[bytes]:
    """Start the Python module *words*[0] with arguments.

    *variables* are added to its environment; *settings* are those of `subprocess.Popen`.
    """
    env = {**environment(), **(variables or {})}
    return subprocess.Popen([*PYTHON, *words], env=env, **settings)  # noqa: S603 - no shell
