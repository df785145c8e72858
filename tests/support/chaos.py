"""Inject random faults into real node processes in network namespaces.

Up to three faults overlap, each on a different node. So three of five nodes can be faulty at once: the run
loses its quorum for a moment and must continue by itself. A report counts the faults by kind and has the
longest time without a commit.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.namespaces import Wires
from tests.support.processes import Process, last_round

CONCURRENT_FAULTS = 3
"""Most faults at the same time."""

WATCH_SECONDS = 2.0
"""Polling interval of the nodes' last commits."""

RESTART_ALL_EVERY = 40
"""On average, one of this many faults kills all processes at once."""


@dataclass
class Report:
    """The faults and their effect."""

    faults: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    """Longest time between two commits, in seconds."""
    highest: int = 0
    """Last round that any node has committed."""


@dataclass
class Chaos:
    """Injects faults into *nodes* on *wires*."""

    wires: Wires
    nodes: dict[str, Process]
    """The latest process of each node; a restart replaces it."""
    start: Callable[[str], Process]
    """Starts the node of this name again, with its original command."""

    chance: random.Random
    starts: list[Process] = field(default_factory=list)
    """All processes that were started by faults."""
    report: Report = field(default_factory=Report)
    _faulty: set[str] = field(default_factory=set)
    _last_commit: float = field(default_factory=time.monotonic)
    _restarting_all: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, seconds: float) -> None:
        """Inject faults for *seconds*; afterwards all links are restored and all nodes run."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONCURRENT_FAULTS):
                workers.create_task(self._work(end))
            workers.create_task(self._watch(end))

    async def _work(self, end: float) -> None:
        faults: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "killed": self._kill,
            "suspended": self._suspend,
            "reset": self._reset,
            "cut one way": self._cut_one_way,
            "unplugged": self._unplug,
        }
        while time.monotonic() < end:
            await asyncio.sleep(self.chance.expovariate(1 / 6))
            if self.chance.randrange(RESTART_ALL_EVERY) == 0:
                await self._restart_all()
                continue
            name = self.chance.choice(sorted(set(self.nodes) - self._faulty))
            kind = self.chance.choice(sorted(faults))
            self._faulty.add(name)
            self.report.faults[kind] += 1
            try:
                await faults[kind](name)
            finally:
                self._faulty.discard(name)

    async def _watch(self, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(WATCH_SECONDS)
            highest = max(map(last_round, self.nodes.values()))
            now = time.monotonic()
            if highest > self.report.highest:
                self.report.highest, self._last_commit = highest, now
            self.report.longest_wait = max(self.report.longest_wait, now - self._last_commit)

    # --- faults; each is repaired before the method returns ---------------------------------------------------

    async def _kill(self, name: str) -> None:
        self.nodes[name].end()
        await self._random_pause(3)
        self._restart(name)

    async def _suspend(self, name: str) -> None:
        process = self.nodes[name]
        process.signal(signal.SIGSTOP)
        try:
            await self._random_pause(6)
        finally:
            process.signal(signal.SIGCONT)

    async def _reset(self, name: str) -> None:
        self.wires.reset(name)

    async def _cut_one_way(self, name: str) -> None:
        others = [other for other in sorted(self.nodes) if other != name]
        deaf = self.chance.sample(others, self.chance.randint(1, len(others)))
        for other in deaf:
            self.wires.drop(name, other)
        try:
            await self._random_pause(6)
        finally:
            for other in deaf:
                self.wires.carry(name, other)

    async def _unplug(self, name: str) -> None:
        self.wires.pull(name)
        try:
            await self._random_pause(6)
        finally:
            self.wires.plug(name)

    async def _restart_all(self) -> None:
        async with self._restarting_all:
            self.report.faults["all killed"] += 1
            free = sorted(set(self.nodes) - self._faulty)
            self._faulty.update(free)
            for name in free:
                self.nodes[name].end()
            for name in free:
                self._restart(name)
            self._faulty.difference_update(free)

    def _restart(self, name: str) -> None:
        self.nodes[name] = self.start(name)
        self.starts.append(self.nodes[name])

    async def _random_pause(self, mean: float) -> None:
        await asyncio.sleep(self.chance.expovariate(1 / mean))


def trained_twice(starts: Sequence[Process], trainings: Callable[[Process], dict[int, int]]) -> list[str]:
    """Return a line for each round that one process trained more than once."""
    return [
        f"{process.name} trained {count} times for round {round_}"
        for process in starts
        for round_, count in trainings(process).items()
        if count > 1
    ]
