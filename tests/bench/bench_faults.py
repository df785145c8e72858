"""Measure how fast a federation of four recovers from a killed aggregator or member, and from a restart.

Real nodes are killed with SIGKILL at a moment that their own events show, and started again with the same
command. One member, the slow one, submits its update `PACE` seconds late: so a round is open long enough to
kill a node in it, and the killed member is the one that all others wait for, which is the worst case. All
kills happen in one federation. Times are the time stamps of the nodes' events.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from p2pfl import events
from tests.bench import synthetic_node
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure
from tests.support.processes import Fleet, Process, fleet, trainings, until

NAMES = ("ada", "ben", "cleo", "dan")
SLOW = "dan"

PACE = 1.0
"""Delay in seconds from the start of the slow member's training to its update."""

OPTIONS = ("--task=synthetic", "--model=0.4m", "--rounds=100000", f"--min-nodes={len(NAMES)}")

EventT = TypeVar("EventT", bound=events.Event)


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the median recovery times, and the number of repeated trainings."""
    times = 2 if settings.is_quick else 10
    story = asyncio.run(live_through(settings.folder, times))
    for what, seconds, budget in (
        ("aggregator killed: until the next one is elected", story.elected, 2.0),
        ("aggregator killed: until its round commits", story.recommitted, None),
        ("member killed: from all others ready to the commit", story.committed, 2.0),
        ("restarted node: until it listens", story.listening, None),
        ("restarted node: until its worker is ready", story.loaded, None),
        ("restarted node: until its update is counted", story.counted, None),
    ):
        yield Figure(
            what,
            statistics.median(seconds),
            "s",
            budget,
            note=f"median of {len(seconds)}, up to {max(seconds):.2f} s",
        )
    yield Figure("rounds trained twice by a node that lived on", story.retrained, "", 0)


async def live_through(folder: Path, times: int) -> Story:
    """Kill *times* aggregators and *times* members in one federation; return the measurements."""
    async with fleet(folder) as opened:
        story = Story(opened)
        await story.begin()
        for _ in range(times):
            await story.kill_an_aggregator()
            await story.kill_a_member()
        return story


class Story:
    """The federation and its recovery times in seconds."""

    def __init__(self, opened: Fleet) -> None:
        self._fleet = opened
        self._nodes: dict[str, Process] = {}
        self.elected: list[float] = []
        self.recommitted: list[float] = []
        self.committed: list[float] = []
        self.listening: list[float] = []
        self.loaded: list[float] = []
        self.counted: list[float] = []
        self.retrained = 0

    async def begin(self) -> None:
        """Start the nodes and wait for a round with all updates."""
        for name in NAMES:
            await self._start(name)
        await self._all_are_counted()

    async def kill_an_aggregator(self) -> None:
        """Kill the aggregator of the next round as soon as it is elected."""
        watcher = self._nodes[NAMES[0]]
        after = _last_round(watcher)
        round_, name = await until(lambda: self._collecting(after), "an election", watcher)
        killed_at, others = self._kill(name)
        took_over = await self._first(
            others,
            events.Elected,
            lambda event, at: event.round == round_ and event.aggregator != name and at > killed_at,
        )
        committed = await self._first(others, events.Committed, lambda event, _: event.round == round_)
        self.elected.append(took_over - killed_at)
        self.recommitted.append(committed - killed_at)
        await self._restart(name)

    async def kill_a_member(self) -> None:
        """Kill the slow member when all others have finished their training."""
        watcher = self._nodes[NAMES[0]]
        after = _last_round(watcher)
        round_ = await until(lambda: self._waiting_for_slow(after), "a round that waits", watcher)
        killed_at, others = self._kill(SLOW)
        committed = await self._first(others, events.Committed, lambda event, _: event.round == round_)
        ready = max(
            _at(node, events.TrainingFinished, lambda event, _: event.round == round_) or killed_at
            for node in others
        )
        self.committed.append(committed - max(ready, killed_at))
        await self._restart(SLOW)

    def _collecting(self, after: int) -> tuple[int, str] | None:
        """Return the open round and its aggregator's name, if the round is later than *after*."""
        for node in self._nodes.values():
            elected = node.all(events.Elected)
            last = elected[-1] if elected else None
            if last is not None and last.round > after and _last_round(node) == last.round - 1:
                return last.round, last.aggregator
        return None

    def _waiting_for_slow(self, after: int) -> int | None:
        """Return the open round if it waits only for the slow member, which is not its aggregator."""
        collecting = self._collecting(after)
        if collecting is None or collecting[1] == SLOW:
            return None
        trained = [node.all(events.TrainingFinished) for name, node in self._nodes.items() if name != SLOW]
        if all(found and found[-1].round == collecting[0] for found in trained):
            return collecting[0]
        return None

    def _kill(self, name: str) -> tuple[float, list[Process]]:
        """Kill node *name*; return the time of the kill and the other nodes."""
        killed_at = time.time()
        self._nodes[name].signal(signal.SIGKILL)
        return killed_at, [node for other, node in self._nodes.items() if other != name]

    async def _restart(self, name: str) -> None:
        """Restart a killed node, wait until its update counts again, and record the durations."""
        self._count_retrained(self._nodes[name])
        self._nodes[name].end()
        began = time.time()
        node = await self._start(name)
        counted = await self._first([node], events.Committed, lambda event, _: name in event.contributors)
        self.counted.append(counted - began)
        for kind, times in ((events.Started, self.listening), (events.WorkerReady, self.loaded)):
            times.append(await self._first([node], kind, lambda *_: True) - began)
        await self._all_are_counted()

    def _count_retrained(self, node: Process) -> None:
        self.retrained += sum(times > 1 for times in trainings(node).values())

    async def _start(self, name: str) -> Process:
        options = [*OPTIONS, *([f"--pace={PACE}"] if name == SLOW else [])]
        peers = [node for other, node in self._nodes.items() if other != name]
        node = await self._fleet.start(name, *options, peers=peers, program=synthetic_node.PROGRAM)
        self._nodes[name] = node
        return node

    async def _all_are_counted(self) -> None:
        """Wait for a commit with the updates of all nodes."""
        watcher = self._nodes[NAMES[0]]
        after = _last_round(watcher)
        await watcher.until(
            events.Committed, lambda event: event.round > after and set(event.contributors) == set(NAMES)
        )

    async def _first(
        self, nodes: list[Process], kind: type[EventT], condition: Callable[[EventT, float], bool]
    ) -> float:
        """Wait for an event of *kind* with *condition* on any of *nodes*; return the earliest time."""

        def look() -> float | None:
            times = [at for node in nodes if (at := _at(node, kind, condition)) is not None]
            return min(times, default=None)

        return await until(look, f"a {kind.__name__}", nodes[0])


def _at(node: Process, kind: type[EventT], condition: Callable[[EventT, float], bool]) -> float | None:
    """Return the time of the first event of *kind* for which *condition(event, time)* holds."""
    node.all(kind)
    return next(
        (
            one.time
            for one in node.published
            if isinstance(one.event, kind) and condition(one.event, one.time)
        ),
        None,
    )


def _last_round(node: Process) -> int:
    """Return the last round that *node* has committed, 0 before the first."""
    return max((event.round for event in node.all(events.Committed)), default=0)


if __name__ == "__main__":
    run("faults", measure)
