"""Measure the time from the start of four nodes to the first member's own work, with torch and without.

The first node is started, and the others as soon as it listens: they get its address, as the members of the
other programs get that of their server. The certificates are there before. With torch, each worker imports it;
without, workers have their model in NumPy arrays, as the members of the other programs.

The processor time of all processes tells more than seconds where something else runs on the machine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from p2pfl import events
from p2pfl.identity.authority import issue
from tests.bench import numpy_node, synthetic_node
from tests.bench.command_line import Settings, run
from tests.bench.report import FIRST_ROUND, FIRST_ROUND_TORCH, Figure
from tests.bench.synthetic import SMALLEST
from tests.support.processes import Process, fleet, until

NODES = 4

TURNS = 5

QUICK_TURNS = 2

PATIENCE_SECONDS = 150.0
"""Enough for four imports of torch on a busy machine."""

PROGRAMS = {False: numpy_node.PROGRAM, True: synthetic_node.PROGRAM}
"""The program of the nodes, by whether their workers import torch."""


@dataclass(frozen=True)
class Start:
    """One start of a federation, until the first member's own work."""

    seconds: float
    processor_seconds: float
    """Of all processes."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the medians of both, which are measured in turns."""
    found: dict[bool, list[Start]] = {False: [], True: []}
    for turn in range(QUICK_TURNS if settings.is_quick else TURNS):
        for has_torch, starts in found.items():
            starts.append(first_round(settings.folder / f"{turn}-{has_torch}", has_torch=has_torch))
    yield from figures(FIRST_ROUND, found[False])
    yield from figures(FIRST_ROUND_TORCH, found[True])


def figures(what: str, starts: Sequence[Start]) -> Iterator[Figure]:
    """Yield the medians of *starts* with their range."""
    times = [start.seconds for start in starts]
    note = f"{NODES} nodes, {min(times):.2f} to {max(times):.2f} in {len(times)} turns"
    yield Figure(what, statistics.median(times), "s", note=note)
    used = statistics.median(start.processor_seconds for start in starts)
    yield Figure(f"{what}: processor time", used, "s", note="of all processes")


def first_round(folder: Path, *, has_torch: bool) -> Start:
    """Start a federation in the new folder *folder*, and wait until a member begins its work."""
    folder.mkdir()
    return asyncio.run(_first_round(folder, PROGRAMS[has_torch]))


async def _first_round(folder: Path, program: Sequence[str]) -> Start:
    names = [f"node-{number}" for number in range(NODES)]
    options = ["--task=synthetic", f"--model={SMALLEST}", "--rounds=1000"]  # they run until they are ended
    async with fleet(folder) as opened:
        for name in names:
            issue(folder / "certs", name)
        began = time.time()
        nodes = await opened.start_all(*names, options=options, program=program)
        at = await until(lambda: began_training(nodes), "the first round", patience=PATIENCE_SECONDS)
        used = [processor_seconds(node) for node in nodes]
        return Start(at - began, sum(used))


def processor_seconds(node: Process) -> float:
    """Return the processor time that *node* and its worker have used."""
    process = psutil.Process(node.pid)
    times = [one.cpu_times() for one in (process, *process.children())]
    return sum(one.user + one.system for one in times)


def began_training(nodes: Sequence[Process]) -> float | None:
    """Return when the first of *nodes* began to train, in seconds since the epoch; None before."""
    for node in nodes:
        has_begun = bool(node.all(events.TrainingStarted))
        assert has_begun or not node.has_ended, node.output
    starts = [
        one.time for node in nodes for one in node.published if isinstance(one.event, events.TrainingStarted)
    ]
    return min(starts, default=None)


if __name__ == "__main__":
    run("first_round", measure)
