"""Measure the overhead of a round (its time without the members' own work) for models of three sizes.

Four real nodes with real workers on loopback, over TLS, run the task `synthetic`. Instead of training, members
perturb the parent model (`tests.bench.synthetic_worker`); this is their own work. The rest is what federated
learning adds to training: models are read, written and hashed; updates are pulled, checked and averaged; all
nodes pull the durable result; they vote and evaluate. The overhead of a round is the time between two
commits, from the journals, minus the longest own work of a member. `tests.bench.peers.figures` measures other
programs in the same way. The first round is a warm-up and not counted.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.bench.command_line import Settings, run
from tests.bench.plain_node import PROGRAM
from tests.bench.report import MODEL_NAMES, OVERHEAD, Figure
from tests.bench.synthetic import WORK
from tests.support.processes import fleet

NODES = ("ada", "ben", "cleo", "dan")

RUNS = (("0.4m", 41, 0.08), ("11m", 11, 1.2), ("100m", 3, 12.0))
"""Model, rounds, budget in seconds."""

PATIENCE_SECONDS = 600.0
"""Time limit of a run."""

QUICK_RUNS = (("0.4m", 11, 0.08), ("11m", 4, 1.2))


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the overhead of a round for each size of model."""
    for model, rounds, budget in QUICK_RUNS if settings.is_quick else RUNS:
        folder = settings.folder / model
        folder.mkdir()
        seconds = asyncio.run(watch(folder, model, rounds))
        spread = f"{min(seconds):.3g} to {max(seconds):.3g} s in {rounds - 1} rounds"
        yield Figure(
            OVERHEAD.format(model=MODEL_NAMES[model]), statistics.median(seconds), "s", budget, note=spread
        )


async def watch(folder: Path, model: str, rounds: int) -> list[float]:
    """Run a federation; return the overheads in seconds of all rounds but the first, from every journal."""
    work = folder / "work"
    work.mkdir()
    os.environ[WORK] = str(work)  # inherited by the processes started below
    options = ["--task=synthetic", f"--model={model}", f"--rounds={rounds}"]
    async with fleet(folder) as opened:
        nodes = await opened.start_all(*NODES, options=options, program=PROGRAM)
        for node in nodes:  # reading their events earlier would take CPU time
            assert await node.exit_code(PATIENCE_SECONDS) == 0, node.output
        commits = [row for rows in opened.rounds(*NODES).values() for row in rows]
    longest = [max(seconds) for seconds in zip(*map(numbers_in, work.iterdir()), strict=True)]
    assert len(longest) == rounds, "every member worked once a round"
    return [row.seconds - longest[row.round - 1] for row in commits if row.kind == "train" and row.round > 1]


def numbers_in(file: Path) -> list[float]:
    """Return the numbers in *file*, one in each line."""
    return [float(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    run("round", measure)
