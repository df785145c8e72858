"""Several ways to one end, tried one after another but not for long: the first that gets there wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from p2pfl.errors import NetworkError

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
