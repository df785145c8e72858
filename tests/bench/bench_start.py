"""Measure the start of commands, the start of a node until peers can reach it, and its idle memory."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from p2pfl import events
from tests.bench.command_line import Settings, run
from tests.bench.report import IDLE, Figure
from tests.support.processes import fleet

IMPORT_TORCH = "import torch; print(flush=True); input()"
"""Prints a line when the import is done, and waits to be measured."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the times of commands, then start time and memory of nodes that wait for peers."""
    times = 3 if settings.is_quick else 7
    yield Figure("python -c pass", median(times, partial(seconds_of, "-c", "pass")), "s")
    for words, budget in ((("--help",), 0.3), (("node", "--help"), 0.3), (("demo", "--help"), None)):
        seconds = median(times, partial(seconds_of, "-m", "p2pfl", *words))
        yield Figure(f"p2pfl {' '.join(words)}", seconds, "s", budget, note=f"warm, median of {times}")

    bare = megabytes_of_bare_torch()
    starts = 2 if settings.is_quick else 3
    folders = [settings.folder / str(number) for number in range(starts)]
    for folder in folders:
        folder.mkdir()
    measured = [asyncio.run(start_a_node(folder)) for folder in folders]
    ready, node, worker = (statistics.median(column) for column in zip(*measured, strict=True))
    note = f"median of {starts}"
    yield Figure("process start to ready for peers", ready, "s", 1.0, note=note)
    yield Figure("idle node process", node, "MB", 80, note=note)
    yield Figure("bare import torch", bare, "MB")
    yield Figure("its worker, over a bare import torch", worker - bare, "MB", 60, note=note)
    yield Figure(IDLE, node + worker, "MB", note="node process and worker")


def median(times: int, one: Callable[[], float]) -> float:
    """Return the median of *times* measurements, after one that warms up caches."""
    one()
    return statistics.median(one() for _ in range(times))


def seconds_of(*command: str) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    return time.monotonic() - began


def megabytes_of_bare_torch() -> float:
    """Return the resident MB of a process that has only imported torch."""
    command = [sys.executable, "-c", IMPORT_TORCH]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found: float = psutil.Process(process.pid).memory_info().rss / 1e6
        process.communicate(b"\n")
    return found


async def start_a_node(folder: Path) -> tuple[float, float, float]:
    """Return the seconds from process start to ready, and the resident MB of node process and worker."""
    async with fleet(folder) as nodes:
        node = await nodes.start("ada", "--min-nodes=2")
        await node.until(events.WorkerReady)
        process = psutil.Process(node.pid)
        [worker] = process.children()
        megabytes = [one.memory_info().rss / 1e6 for one in (process, worker)]
        return node.all(events.Started)[0].seconds, megabytes[0], megabytes[1]


if __name__ == "__main__":
    run("start", measure)
