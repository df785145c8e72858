from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pfl.errors import NetworkError
from p2pfl.net.transport import tasks
from p2pfl.net.transport.tasks import AllAttemptsFailedError, BackgroundTasks, run, run_staggered
from tests.support.meshes import until


async def test_a_restarting_task_restarts_after_errors_and_logs_each_kind_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "RESTART_SECONDS", 0.0)
    errors: list[Exception] = [OSError(errno.EMFILE, "too many"), OSError(errno.EMFILE, "too many")]
    errors += [RuntimeError("ours")]
    starts = 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        if errors:
            raise errors.pop(0)
        await asyncio.Event().wait()

    owner = BackgroundTasks()
    owner.start_restarting("waiting", work)
    await until(lambda: starts == 4)
    await owner.close()
    assert [record.getMessage() for record in caplog.records] == ["an error in waiting; it is restarted"] * 2


LONG = 99.0


class Staggered:
    """Attempts that the test ends."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}

    def runner(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        self.ends[name] = asyncio.get_running_loop().create_future()

        async def run() -> str:
            self.started.append(name)
            try:
                return await self.ends[name]
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return run

    async def run(self, *names: str, delay: float = LONG) -> tuple[int, str]:
        return await run_staggered([self.runner(name) for name in names], delay, self.discarded.append)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_second_attempt_does_not_start_within_the_delay() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee"))
    await settle()
    assert staggered.started == ["ant"]
    staggered.ends["ant"].set_result("there")
    assert await running == (0, "there")
    assert staggered.started == ["ant"]


async def test_the_second_attempt_starts_at_once_when_the_first_fails() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee"))
    await settle()
    staggered.ends["ant"].set_exception(NetworkError("fell"))
    staggered.ends["bee"].set_result("there")
    assert await running == (1, "there")


async def test_the_second_attempt_starts_after_the_delay_and_the_loser_is_cancelled() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee", delay=0.0))
    await until(lambda: staggered.started == ["ant", "bee"])
    staggered.ends["bee"].set_result("there")
    assert await running == (1, "there")
    assert staggered.cancelled == ["ant"]


async def test_of_two_simultaneous_results_the_first_in_order_wins_and_the_other_is_discarded() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee", delay=0.0))
    await until(lambda: staggered.started == ["ant", "bee"])
    staggered.ends["ant"].set_result("ant")
    staggered.ends["bee"].set_result("bee")
    assert await running == (0, "ant")
    assert staggered.discarded == ["bee"]


async def test_when_all_attempts_fail_the_errors_are_in_the_order_of_the_attempts() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee", delay=0.0))
    await settle()
    staggered.ends["bee"].set_exception(NetworkError("two"))
    staggered.ends["ant"].set_exception(NetworkError("one"))
    with pytest.raises(AllAttemptsFailedError, match="one; two"):
        await running


async def test_an_unexpected_error_is_raised_at_once_and_the_other_attempts_are_cancelled() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee", delay=0.0))
    await until(lambda: staggered.started == ["ant", "bee"])
    staggered.ends["bee"].set_exception(ValueError("ours"))
    with pytest.raises(ValueError, match="ours"):
        await running
    assert staggered.cancelled == ["ant"]


async def test_cancelling_the_caller_cancels_all_attempts() -> None:
    staggered = Staggered()
    running = asyncio.create_task(staggered.run("ant", "bee", delay=0.0))
    await until(lambda: staggered.started == ["ant", "bee"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(staggered.cancelled) == ["ant", "bee"]


async def test_without_attempts_it_fails() -> None:
    with pytest.raises(AllAttemptsFailedError):
        await run_staggered([], LONG, print)


def test_a_node_runs_on_uvloop_where_it_exists_and_returns_its_result() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert run(main()) == ("asyncio" if sys.platform == "win32" else "uvloop")
