"""Reads processor, memory and process information from the operating system; all of it is optional.

The values are only displayed; no decision depends on them. A container may hide any file that psutil reads,
and psutil then raises arbitrary exceptions. Each function returns a neutral value instead.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """The resource use of a process."""

    seconds: float = 0.0
    """Processor time of all its threads."""
    memory: int = 0
    """Resident memory in bytes."""


def count_cores() -> int:
    """Return the number of processors; 1 if unknown."""
    try:
        return psutil.cpu_count() or 1
    except Exception:  # noqa: BLE001 - see the module's docstring
        return os.cpu_count() or 1


def total_memory() -> int:
    """Return the memory of this device in bytes; 0 if unknown."""
    try:
        return int(psutil.virtual_memory().total)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return 0


def process_start() -> float:
    """Return the start of this process in seconds since the epoch; the current time if unknown.

    Linux counts it from boot, and tells the time of the boot, which psutil adds, in whole seconds: that makes
    a start up to a second too early. The clock since boot is exact.
    """
    now = time.time()
    try:
        if sys.platform == "linux":
            ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        else:
            age = now - float(psutil.Process().create_time())
        return now - max(age, 0.0)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return now


def usage_of(pid: int) -> Usage:
    """Return the resource use of the process *pid*; zeros if unknown."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss)
    except Exception:  # noqa: BLE001 - see the module's docstring
        return Usage()


def is_running(pid: int) -> bool:
    """Return whether a process *pid* exists."""
    if sys.platform == "win32":  # os.kill would end it there
        return psutil.pid_exists(pid)
    if pid <= 0:  # os.kill would take it as a process group
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
