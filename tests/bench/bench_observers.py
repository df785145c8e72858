"""How much longer a round takes while somebody watches a node.

Four real nodes with real workers on loopback, over TLS, run rounds of the task `ballast`. For some rounds
nobody watches, for as many one observer follows one of the nodes as a screen does, folding all it is told into
the state that a screen shows, in a process of its own; in turns, many times, since a machine is never as quiet
as it was. What is compared are the medians of each turn, over all nodes; and, since other programs stretch rounds
as well, also the processor time that the watched node's own process took.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from p2pfl import events
from tests.bench.alone import Settings, run
from tests.bench.report import MODEL_NAMES, Figure
from tests.bench.watched_node import PROGRAM
from tests.support.processes import Fleet, Process, fleet
from tests.support.source import ROOT

NODES = ("ada", "ben", "cleo", "dan")

RUNS = (("0.4m", 8, 8), ("11m", 3, 3))
"""Model, turns, rounds in each half of a turn."""

QUICK_RUNS = (("0.4m", 8, 6),)

WATCHER = ("-m", "tests.bench.watcher")

BUDGET = 1.02
"""Of the time of a round without an observer."""


class Half(NamedTuple):
    """Half a turn: rounds *first* to *last*, all watched or all not."""

    is_watched: bool
    first: int
    last: int
    cpu: float
    """Seconds of processor that the node took for a round, in its own process."""


class Turns(NamedTuple):
    """What all turns came to: watched by unwatched for each, and how long a round took unwatched."""

    rounds: list[float]
    cpu: list[float]
    seconds: float


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield by how much an observer stretches a round, for models of two sizes."""
    for model, turns, rounds in QUICK_RUNS if settings.is_quick else RUNS:
        folder = settings.folder / model
        folder.mkdir()
        found = asyncio.run(compare(folder, model, turns, rounds))
        name = MODEL_NAMES[model]
        spread = f"{min(found.rounds):.3f} to {max(found.rounds):.3f} in {turns} turns"
        what = f"round while watched, of one unwatched, {name}"
        note = f"{spread}, rounds of {found.seconds:.3g} s"
        yield Figure(what, statistics.median(found.rounds), "", BUDGET, note=note)
        spread = f"{min(found.cpu):.3f} to {max(found.cpu):.3f} in {turns} turns"
        yield Figure(
            f"the same of the node's processor time, {name}", statistics.median(found.cpu), note=spread
        )


async def compare(folder: Path, model: str, turns: int, rounds: int) -> Turns:
    """Run a federation, watched and unwatched in turns."""
    halves: list[Half] = []
    options = ["--task=ballast", f"--model={model}", "--rounds=100000"]
    async with fleet(folder) as opened:
        nodes = await opened.start_all(*NODES, options=options, program=PROGRAM)
        await nodes[0].until(events.Committed, lambda event: event.round > 1)
        for turn in range(turns):
            for is_watched in (False, True) if turn % 2 else (True, False):
                async with watching(opened) if is_watched else contextlib.nullcontext():
                    halves.append(await half(nodes[0], rounds, is_watched=is_watched))
        commits = [event for node in nodes for event in node.all(events.Committed)]
    medians = [
        statistics.median(event.seconds for event in commits if one.first <= event.round <= one.last)
        for one in halves
    ]
    return Turns(
        ratios(halves, medians),
        ratios(halves, [one.cpu for one in halves]),
        statistics.median(value for one, value in zip(halves, medians, strict=True) if not one.is_watched),
    )


def ratios(halves: list[Half], values: list[float]) -> list[float]:
    """Return for each turn the value of its watched half by that of the other one."""
    watched = [value for one, value in zip(halves, values, strict=True) if one.is_watched]
    unwatched = [value for one, value in zip(halves, values, strict=True) if not one.is_watched]
    return [one / other for one, other in zip(watched, unwatched, strict=True)]


async def half(node: Process, rounds: int, *, is_watched: bool) -> Half:
    """Let so many whole rounds pass."""
    process = psutil.Process(node.pid)
    before, began = processor_seconds(process), node.all(events.Committed)[-1].round
    first = began + 2
    last = first + rounds - 1
    await node.until(events.Committed, lambda event: event.round >= last)
    took = processor_seconds(process) - before
    return Half(is_watched, first, last, took / (node.all(events.Committed)[-1].round - began))


def processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.asynccontextmanager
async def watching(opened: Fleet) -> AsyncIterator[None]:
    """Have an observer of the first node, in a process of its own, while this is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *WATCHER,
        str(opened.folder / NODES[0]),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline(), "the observer did not connect"
        yield
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    run("observers", measure)
