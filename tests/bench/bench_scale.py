"""Measure the bytes of a round and the aggregator's memory, by number of members and size of the model.

Real nodes with real workers on loopback run a few rounds of the task `synthetic`, without training. Both
figures are from the same runs. Bytes are what each node received from the start of the run, when it has the
initial model, to its end, when it has the last one, by the nodes' counters; so the founding is not counted.
Memory is the sum of the resident sets of a node's two processes, sampled continuously, with all pages they
touched, also of mapped files. Every node is aggregator at some time, so the figure is the largest of all
nodes.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from p2pfl import events
from tests.bench import counted_node
from tests.bench.command_line import Settings, run
from tests.bench.report import MODEL_NAMES, PEAK, TRAFFIC, Figure
from tests.bench.synthetic import parameters
from tests.support.processes import Process, fleet

RUNS = (("0.4m", 4, 3), ("11m", 2, 3), ("11m", 4, 3), ("11m", 16, 2), ("100m", 4, 2))
"""Model, members, rounds. The smallest model comes first: its nodes are the baseline."""

QUICK_RUNS = (("0.4m", 4, 3), ("11m", 4, 2))

UNIT = "× 2(N-1)"

SAMPLE_SECONDS = 0.01
"""Sampling interval of memory. An allocation for a model of 11 M parameters lasts longer."""

PATIENCE_SECONDS = 150.0
"""Enough for the start of sixteen nodes, or a round of the largest model, on a busy machine."""

NODE_GB = 0.6
"""Memory of a node with a small model; a machine may not have enough for sixteen."""


@dataclass(frozen=True)
class Run:
    """Measurements of one run."""

    base: float
    """Resident bytes of a node with a ready worker before the run, median."""
    peak: float
    """Largest resident bytes of any node."""
    bulk: int
    """Bytes of blobs that all nodes together received."""
    control: int
    """Bytes that all nodes together received on links."""
    loopback: int
    """All bytes that this machine sent over loopback."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the bytes and the memory of each run."""
    bare = 0.0
    for number, (model, nodes, rounds) in enumerate(QUICK_RUNS if settings.is_quick else RUNS):
        model_bytes = 4 * parameters(model)
        needed = nodes * (NODE_GB * 1e9 + 4 * model_bytes)
        if psutil.virtual_memory().available < needed:
            print(f"left out for lack of {needed / 1e9:.1f} GB of memory: {nodes} nodes, {model}")
            continue
        folder = settings.folder / str(number)
        folder.mkdir()
        seen = asyncio.run(watch(folder, model, nodes, rounds))
        bare = bare or seen.base
        yield from figures_of_bytes(seen, model, nodes, rounds)
        yield from figures_of_memory(seen, bare, model, nodes)


def figures_of_bytes(seen: Run, model: str, nodes: int, rounds: int) -> Iterator[Figure]:
    """Yield the bytes of a round, by the nodes' counters and by the machine's."""
    one = 4 * parameters(model)
    ideal = rounds * 2 * (nodes - 1) * one
    moved = seen.bulk + seen.control
    what = TRAFFIC.format(model=MODEL_NAMES[model], nodes=nodes)
    note = f"{moved / rounds / 1e6:,.1f} MB a round; control: {seen.control / rounds / 1e3:,.0f} KB"
    yield Figure(
        f"{what}, counted by them", moved / ideal, UNIT, None if model == "0.4m" else 1.02, note=note
    )
    genesis = (nodes - 1) * one  # bytes of the initial model, which the machine's counter includes
    yield Figure(what, (seen.loopback - genesis) / ideal, UNIT, note="all of loopback, TCP's own included")


def figures_of_memory(seen: Run, bare: float, model: str, nodes: int) -> Iterator[Figure]:
    """Yield the peak memory above a node without a model, and above the same nodes before the run."""
    one = 4 * parameters(model)
    what = PEAK.format(model=MODEL_NAMES[model], nodes=nodes)
    budget = 3.0 if model == "100m" else None
    for suffix, base, allowed in (("", bare, budget), (", over its model", seen.base, None)):
        over = seen.peak - base
        note = f"{over / 1e6:,.0f} MB over {base / 1e6:,.0f} MB"
        yield Figure(what + suffix, over / one, "models", allowed, note=note)


async def watch(folder: Path, model: str, count: int, rounds: int) -> Run:
    """Run a federation and return its measurements."""
    options = ["--task=synthetic", f"--model={model}", f"--rounds={rounds}"]
    names = [f"node-{number}" for number in range(count)]
    sent = psutil.net_io_counters(pernic=True)
    async with fleet(folder) as opened:
        nodes = await opened.start_all(*names, options=options, program=counted_node.PROGRAM)
        for node in nodes:
            await node.until(events.WorkerReady, patience=PATIENCE_SECONDS)
        with Sampler(nodes) as sampler:
            for number in range(1, rounds + 1):
                for node in nodes:
                    await node.until(events.Committed, partial(is_of, number), PATIENCE_SECONDS)
            for node in nodes:
                await node.until(events.RunEnded, patience=PATIENCE_SECONDS)
        for node in nodes:
            assert await node.exit_code() == 0, node.output
    after = psutil.net_io_counters(pernic=True)
    received = [counted_node.read_received(folder, name) for name in names]
    return Run(
        base=statistics.median(sampler.first),
        peak=max(sampler.highest),
        bulk=sum(end.bulk - begin.bulk for begin, end in received),
        control=sum(end.control - begin.control for begin, end in received),
        loopback=sum(after[nic].bytes_sent - sent[nic].bytes_sent for nic in after if nic in ("lo", "lo0")),
    )


def is_of(number: int, event: events.Committed) -> bool:
    return event.round == number


class Sampler:
    """Samples the memory of nodes and their workers in a thread, inside a `with` block."""

    def __init__(self, nodes: list[Process]) -> None:
        families = [psutil.Process(node.pid) for node in nodes]
        self._families = [[one, *one.children()] for one in families]
        self.first = [_resident(family) for family in self._families]
        """Resident bytes of each node at the beginning."""
        self.highest = list(self.first)
        """Largest resident bytes of each node so far."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            now = [_resident(family) for family in self._families]
            self.highest = [max(pair) for pair in zip(self.highest, now, strict=True)]


def _resident(family: list[psutil.Process]) -> int:
    """Return the sum of the processes' resident bytes; processes that have ended count as 0."""
    total = 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    run("scale", measure)
