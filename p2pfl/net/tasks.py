"""Tasks that belong to somebody: kept from the garbage collector, ended together, their faults reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

ANEW_SECONDS = 1.0
"""Before a task that was to go on for ever and failed begins anew; doubles up to `ANEW_MOST_SECONDS`."""

ANEW_MOST_SECONDS = 30.0


class Tasks:
    """The running tasks of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *work* as a task. What it raises is a fault of ours: asyncio's exception handler reports it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def start_lasting(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *work* for as long as this owner lives.

        An error that nobody foresaw is logged, once for each kind, and *work* begins anew after a while: what
        the system refuses now it may grant later. *what* says in the log what is done.
        """
        self.start(self._last(what, work))

    async def _last(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        seconds, told = ANEW_SECONDS, ""
        while True:
            try:
                await work()
                return
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
                if fault != told:
                    told = fault
                    logger.exception("an error in %s; it goes on in a moment", what)
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, ANEW_MOST_SECONDS)

    async def wait(self, seconds: float) -> None:
        """Wait until all have ended, at most *seconds*."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def close(self) -> None:
        """Cancel all and wait for their end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
