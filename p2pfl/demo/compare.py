"""Compares the model of a demo with models that are each trained on one node's data only.

The comparison can begin while the terminal UI still has the terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from p2pfl import events
from p2pfl.demo.control import Control
from p2pfl.demo.results import JournalSummary
from p2pfl.demo.screen import Screen, draw_lone
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.messages import RunSpec


class Lone(msgspec.Struct, frozen=True):
    """A model trained on one node's data only."""

    name: str
    samples: int
    accuracy: float


class Comparison(msgspec.Struct, frozen=True):
    """The federated model and those trained alone for as many epochs, all on the whole test split."""

    federated: float
    """Accuracy."""
    lone: tuple[Lone, ...]
    epochs: int

    def lines(self) -> list[str]:
        """Say how they compare."""
        best = max(self.lone, key=lambda one: one.accuracy)
        mean = sum(one.accuracy for one in self.lone) / len(self.lone)
        gain = 100 * (self.federated - best.accuracy)
        verdict = f"{gain:.1f} points above the best lone one" if gain > 0 else "not above the best lone one"
        return [
            f"federated model           {self.federated:.4f}   {verdict}",
            f"best model trained alone  {best.accuracy:.4f}   "
            f"{best.name}: {best.samples} samples, {self.epochs} epochs",
            f"mean of {len(self.lone)} trained alone   {mean:.4f}",
        ]


async def fetch_data(spec: RunSpec, places: DataPlaces) -> None:
    """Let a worker load the data of *spec* once, which downloads them if they are missing.

    Raises:
        WorkerError: the worker process failed.
        TaskError: they cannot be had.
    """
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    try:
        await worker.describe(spec)
    finally:
        await worker.close()


async def compare(
    journal: JournalSummary,
    places: DataPlaces,
    on_progress: Callable[[str, float], None],
    on_lone: Callable[[Lone], None] = lambda _: None,
) -> Comparison:
    """Evaluate the final model of *journal*, and models trained on each founding member's data alone.

    *places* is where data sets are; *on_progress* gets a node's name and the share of its training that is
    done, *on_lone* each result.

    Raises:
        WorkerError: the worker process failed.
        TaskError: its task cannot be loaded.
    """
    spec = msgspec.structs.replace(journal.run.spec, rounds=journal.run.trained)
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    try:
        result = await worker.evaluate(spec, journal.model, 0, 1)
        lone = []
        for name, slot in journal.slots.items():
            lone.append(await _alone(worker, spec, name, slot, on_progress))
            on_lone(lone[-1])
    finally:
        await worker.close()
    return Comparison(result.correct / result.total, tuple(lone), spec.rounds * spec.epochs)


async def _alone(
    worker: Worker, spec: RunSpec, name: str, slot: int, on_progress: Callable[[str, float], None]
) -> Lone:
    on_progress(name, 0.0)
    result = await worker.alone(
        spec,
        slot % spec.partitions,
        lambda progress: on_progress(name, progress.done / max(1, progress.total)),
    )
    assert result is not None, "nobody stops it"
    return Lone(name, result.samples, result.correct / result.total)


class Comparing:
    """Trains on each node's data alone, once, and tells each result to whoever looks."""

    def __init__(self, places: DataPlaces, screen: Screen, control: Control) -> None:
        """Compare nothing yet; *places* is where data sets are."""
        self._places = places
        self._screen = screen
        self._control = control
        self._task: asyncio.Task[Comparison] | None = None

    def begin(self, journal: JournalSummary) -> None:
        """Begin with the run of *journal*, unless it was begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._compare(journal))

    async def result(self, journal: JournalSummary) -> Comparison:
        """Return how the models compare, from the run of *journal*.

        Raises:
            WorkerError: the worker process failed.
            TaskError: its task cannot be loaded.
        """
        self.begin(journal)
        assert self._task is not None
        return await self._task

    async def close(self) -> None:
        """Give up what has not ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _compare(self, journal: JournalSummary) -> Comparison:
        epochs = journal.run.trained * journal.run.spec.epochs

        def tell(lone: Lone) -> None:
            self._control.tell(events.LoneTrained(lone.name, lone.accuracy, epochs))

        return await compare(journal, self._places, lambda *done: self._screen.show(draw_lone(*done)), tell)
