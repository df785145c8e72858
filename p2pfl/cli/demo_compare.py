"""The demo's comparison as something that can begin while the terminal UI still has the terminal."""

from __future__ import annotations

import asyncio

from p2pfl import events
from p2pfl.cli import demo_result
from p2pfl.cli.demo_control import Control
from p2pfl.cli.demo_result import Comparison, JournalSummary, Lone
from p2pfl.cli.demo_screen import Screen, draw_lone
from p2pfl.learning.data import DataPlaces


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
        epochs = journal.run.trained * journal.run.spec.training.epochs

        def tell(lone: Lone) -> None:
            self._control.tell(events.LoneTrained(lone.name, lone.accuracy, epochs))

        return await demo_result.compare(
            journal, self._places, lambda *done: self._screen.show(draw_lone(*done)), tell
        )
