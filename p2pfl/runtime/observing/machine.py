"""What the system tells of this device and its processes. Nothing is decided by it, so all of it is optional.

A container may hide any part of what psutil reads, and psutil then raises whatever its parser happened to
meet. Each function here answers with a neutral value instead.
"""

from __future__ import annotations

import os
import sys
import time
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """What a process has used."""

    seconds: float = 0.0
    """Of processor time, in all its threads."""
    memory: int = 0
    """Bytes of it in memory now."""


def count_cores() -> int:
    """Return the number of processors; 1 where the system does not tell."""
    try:
        return psutil.cpu_count() or 1
    except Exception:  # noqa: BLE001 - see the module's docstring
        return os.cpu_count() or 1


def total_memory() -> int:
    """Return the bytes of memory; 0 where the system does not tell."""
    try:
        return int(psutil.virtual_memory().total)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return 0


def process_start() -> float:
    """Return when this process began, in seconds since the epoch; now where the system does not tell."""
    now = time.time()
    try:
        return min(float(psutil.Process().create_time()), now)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return now


def usage_of(pid: int) -> Usage:
    """Return what the process *pid* has used; nothing where the system does not tell."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return Usage()


def is_running(pid: int) -> bool:
    """Return whether there is a process *pid*."""
    if sys.platform == "win32":  # where os.kill would end it
        return psutil.pid_exists(pid)
    if pid <= 0:  # a group of processes to os.kill
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
