"""Measure how much an observer of a node slows down a round.

Four real nodes with real workers on loopback, over TLS, run rounds of the task `synthetic`. A turn is some
rounds without an observer and as many with one, in its own process, which folds all events of one node into
the state of a screen. There are many turns, since the load of the machine changes. The bench compares the
medians of both halves of a turn over all nodes. Other programs slow rounds down too, so it also compares the
CPU time of the observed node's process.
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
from tests.bench.command_line import Settings, run
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
"""As a multiple of a round without an observer."""


class Half(NamedTuple):
    """Half of a turn: rounds *first* to *last*, either all observed or none."""

    is_watched: bool
    first: int
    last: int
    cpu: float
    """CPU seconds of the node's process for each round."""


class Turns(NamedTuple):
    """Results of all turns."""

    rounds: list[float]
    """For each turn, the median round time observed, divided by the one not observed."""
    cpu: list[float]
    """The same ratio of the CPU time."""
    seconds: float
    """Median time of a round that is not observed."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the slow-down by an observer, for models of two sizes."""
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
    """Run a federation, in turns with and without an observer."""
    halves: list[Half] = []
    options = ["--task=synthetic", f"--model={model}", "--rounds=100000"]
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
    """Return for each turn the value of its observed half divided by that of the other half."""
    watched = [value for one, value in zip(halves, values, strict=True) if one.is_watched]
    unwatched = [value for one, value in zip(halves, values, strict=True) if not one.is_watched]
    return [one / other for one, other in zip(watched, unwatched, strict=True)]


async def half(node: Process, rounds: int, *, is_watched: bool) -> Half:
    """Wait for *rounds* whole rounds; return what they cost."""
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
    """Run an observer of the first node in its own process inside this context."""
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
