"""Tasks that belong to somebody: kept from the garbage collector, ended together, their faults reported."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from p2pfl.errors import NetworkError

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


ResultT = TypeVar("ResultT")

Attempt = Callable[[], Coroutine[Any, Any, ResultT]]


class AllFailed(NetworkError):  # noqa: N818 - says what happened
    """Every attempt failed."""

    def __init__(self, errors: Sequence[NetworkError]) -> None:
        """Take the *errors* in the order of the attempts."""
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


async def race(
    attempts: Sequence[Attempt[ResultT]], head_start: float, discard: Callable[[ResultT], None]
) -> tuple[int, ResultT]:
    """Return the result that is there first, after the number of its attempt.

    Each attempt starts when the one before it has failed or has had *head_start* seconds. Those that are
    still under way at the end are cancelled; a second result is given to *discard*.

    Raises:
        AllFailed: each of them raised a NetworkError. Anything else that one raises is raised at once.
    """
    tasks: list[asyncio.Task[ResultT]] = []
    winner: asyncio.Task[ResultT] | None = None
    try:
        pending: set[asyncio.Task[ResultT]] = set()
        while pending or len(tasks) < len(attempts):
            is_last = len(tasks) == len(attempts)
            if not is_last:
                tasks.append(asyncio.create_task(attempts[len(tasks)]()))
                pending.add(tasks[-1])
                is_last = len(tasks) == len(attempts)
            done, pending = await asyncio.wait(
                pending, timeout=None if is_last else head_start, return_when=asyncio.FIRST_COMPLETED
            )
            for number, task in enumerate(tasks):
                if task in done and not isinstance(task.exception(), NetworkError):
                    result = task.result()
                    winner = task
                    return number, result
        raise AllFailed([error for task in tasks if isinstance(error := task.exception(), NetworkError)])
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if task is not winner and not task.cancelled() and task.exception() is None:
                discard(task.result())


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run *main* as `asyncio.run` does, on the best loop for a node."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
