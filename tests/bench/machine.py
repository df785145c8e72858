"""Describe the machine and the commit of a bench run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench.report import Commit, Machine
from tests.support.source import ROOT

FSYNCS = 9
"""Repetitions, of which the median is reported."""


def describe_machine() -> Machine:
    """Return the hardware and software of this machine, and its load in the last minute."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gb=psutil.virtual_memory().total / 1e9,
        disk=_disk(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=importlib.metadata.version("torch"),
        openssl=" ".join(ssl.OPENSSL_VERSION.split()[:2]),
        load=psutil.getloadavg()[0],
    )


def describe_commit() -> Commit:
    """Return the commit of the checkout; "unknown" outside of a checkout."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return Commit(commit, bool(_git("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return Commit("unknown", False)


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _disk() -> str:
    """Return the file system of temporary folders and the time of its `fsync`."""
    with tempfile.NamedTemporaryFile() as file:
        seconds = []
        for _ in range(FSYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
        place = Path(file.name).resolve()
    mounts = [one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)]
    kind = max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else "unknown file system"
    return f"{kind}, fsync {statistics.median(seconds) * 1000:.1f} ms"
