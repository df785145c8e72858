"""Random faults on real node processes in network namespaces, for as long as a test wants.

Three faults may overlap, each on a node of its own, so that up to three of five nodes are hurt at once: the run
stops for moments and has to go on by itself. What happened is written down, by kind, with the longest time
without a commit.
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

HANDS = 3
"""Faults at a time."""

WATCH_SECONDS = 2.0
"""Between two looks at how far the nodes are."""

RESTART_ALL_EVERY = 40
"""One fault of so many ends all processes at once."""


@dataclass
class Report:
    """What was done, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    """Seconds between two commits, the longest of all."""
    highest: int = 0
    """The last round any node has committed."""


@dataclass
class Chaos:
    """Hurts the nodes *names* on *wires*; `start` starts one again as it was started first."""

    wires: Wires
    nodes: dict[str, Process]
    """The latest start of each, kept up to date here."""
    start: Callable[[str], Process]
    chance: random.Random
    starts: list[Process] = field(default_factory=list)
    """Every start there was."""
    report: Report = field(default_factory=Report)
    _hurt: set[str] = field(default_factory=set)
    _last_commit: float = field(default_factory=time.monotonic)
    _all_again: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, seconds: float) -> None:
        """Hurt nodes for *seconds*; afterwards nothing is cut or suspended, and every node runs."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as hands:
            for _ in range(HANDS):
                hands.create_task(self._work(end))
            hands.create_task(self._watch(end))

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
            name = self.chance.choice(sorted(set(self.nodes) - self._hurt))
            kind = self.chance.choice(sorted(faults))
            self._hurt.add(name)
            self.report.faults[kind] += 1
            try:
                await faults[kind](name)
            finally:
                self._hurt.discard(name)

    async def _watch(self, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(WATCH_SECONDS)
            highest = max(map(last_round, self.nodes.values()))
            now = time.monotonic()
            if highest > self.report.highest:
                self.report.highest, self._last_commit = highest, now
            self.report.longest_wait = max(self.report.longest_wait, now - self._last_commit)

    # --- faults, each healed when it returns ----------------------------------------------------------------

    async def _kill(self, name: str) -> None:
        self.nodes[name].end()
        await self._some_time(3)
        self._again(name)

    async def _suspend(self, name: str) -> None:
        process = self.nodes[name]
        process.signal(signal.SIGSTOP)
        try:
            await self._some_time(6)
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
            await self._some_time(6)
        finally:
            for other in deaf:
                self.wires.carry(name, other)

    async def _unplug(self, name: str) -> None:
        self.wires.pull(name)
        try:
            await self._some_time(6)
        finally:
            self.wires.plug(name)

    async def _restart_all(self) -> None:
        async with self._all_again:
            self.report.faults["all killed"] += 1
            free = sorted(set(self.nodes) - self._hurt)
            self._hurt.update(free)
            for name in free:
                self.nodes[name].end()
            for name in free:
                self._again(name)
            self._hurt.difference_update(free)

    def _again(self, name: str) -> None:
        self.nodes[name] = self.start(name)
        self.starts.append(self.nodes[name])

    async def _some_time(self, mean: float) -> None:
        await asyncio.sleep(self.chance.expovariate(1 / mean))


def trained_twice(starts: Sequence[Process], trainings: Callable[[Process], dict[int, int]]) -> list[str]:
    """Return a line for each round that one start of a node trained more than once."""
    return [
        f"{process.name} trained {count} times for round {round_}"
        for process in starts
        for round_, count in trainings(process).items()
        if count > 1
    ]
