"""How much longer a round takes while somebody watches a node.

Four real nodes with real workers on loopback, over TLS, run rounds of the task `ballast`. For some rounds
nobody watches, for as many one observer follows one of the nodes as a screen does, folding all it is told into
the state that a screen shows, in a process of its own; in turns, many times, since a machine is never as quiet
as it was. What is compared are the medians of each turn, over all nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from p2pfl import events
from tests.bench.alone import Settings, run
from tests.bench.report import MODEL_NAMES, Figure
from tests.bench.watched_node import PROGRAM
from tests.support.processes import Fleet, Process, fleet
from tests.support.source import ROOT

NODES = ("ada", "ben", "cleo", "dan")

RUNS = (("0.4m", 30, 8), ("11m", 10, 3))
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


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield by how much an observer stretches a round, for models of two sizes."""
    for model, turns, rounds in QUICK_RUNS if settings.is_quick else RUNS:
        folder = settings.folder / model
        folder.mkdir()
        ratios, seconds = asyncio.run(compare(folder, model, turns, rounds))
        spread = f"{min(ratios):.3f} to {max(ratios):.3f} in {turns} turns, rounds of {seconds:.3g} s"
        what = f"round while watched, of one unwatched, {MODEL_NAMES[model]}"
        yield Figure(what, statistics.median(ratios), "", BUDGET, note=spread)


async def compare(folder: Path, model: str, turns: int, rounds: int) -> tuple[list[float], float]:
    """Run a federation; return watched by unwatched for each turn, and the seconds of an unwatched round."""
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
    watched = [median for one, median in zip(halves, medians, strict=True) if one.is_watched]
    unwatched = [median for one, median in zip(halves, medians, strict=True) if not one.is_watched]
    ratios = [one / other for one, other in zip(watched, unwatched, strict=True)]
    return ratios, statistics.median(unwatched)


async def half(node: Process, rounds: int, *, is_watched: bool) -> Half:
    """Let so many whole rounds pass."""
    first = node.all(events.Committed)[-1].round + 2
    last = first + rounds - 1
    await node.until(events.Committed, lambda event: event.round >= last)
    return Half(is_watched, first, last)


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
