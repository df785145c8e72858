from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pfl.errors import NetworkError
from p2pfl.net.transport import tasks
from p2pfl.net.transport.tasks import AllFailed, Tasks, race, run
from tests.support.meshes import until


async def test_what_is_to_last_begins_anew_after_an_error_that_is_logged_once_of_each_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "ANEW_SECONDS", 0.0)
    errors: list[Exception] = [OSError(errno.EMFILE, "too many"), OSError(errno.EMFILE, "too many")]
    errors += [RuntimeError("ours")]
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if errors:
            raise errors.pop(0)
        await asyncio.Event().wait()

    owner = Tasks()
    owner.start_lasting("waiting", work)
    await until(lambda: begun == 4)
    await owner.close()
    assert [record.getMessage() for record in caplog.records] == [
        "an error in waiting; it goes on in a moment"
    ] * 2


LONG = 99.0


class Course:
    """Attempts that end when the test says so."""

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

    async def run(self, *names: str, head_start: float = LONG) -> tuple[int, str]:
        return await race([self.runner(name) for name in names], head_start, self.discarded.append)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_second_does_not_start_while_the_first_has_its_head_start() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee"))
    await settle()
    assert course.started == ["ant"]
    course.ends["ant"].set_result("there")
    assert await running == (0, "there")
    assert course.started == ["ant"]


async def test_the_second_starts_at_once_when_the_first_fails() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee"))
    await settle()
    course.ends["ant"].set_exception(NetworkError("fell"))
    course.ends["bee"].set_result("there")
    assert await running == (1, "there")


async def test_the_second_starts_beside_the_first_after_the_head_start_and_the_loser_is_cancelled() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee", head_start=0.0))
    await until(lambda: course.started == ["ant", "bee"])
    course.ends["bee"].set_result("there")
    assert await running == (1, "there")
    assert course.cancelled == ["ant"]


async def test_of_two_results_at_a_time_the_first_in_order_wins_and_the_other_is_discarded() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee", head_start=0.0))
    await until(lambda: course.started == ["ant", "bee"])
    course.ends["ant"].set_result("ant")
    course.ends["bee"].set_result("bee")
    assert await running == (0, "ant")
    assert course.discarded == ["bee"]


async def test_when_all_fail_the_errors_come_in_order() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee", head_start=0.0))
    await settle()
    course.ends["bee"].set_exception(NetworkError("two"))
    course.ends["ant"].set_exception(NetworkError("one"))
    with pytest.raises(AllFailed, match="one; two"):
        await running


async def test_a_fault_is_raised_at_once_and_the_others_are_cancelled() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee", head_start=0.0))
    await until(lambda: course.started == ["ant", "bee"])
    course.ends["bee"].set_exception(ValueError("ours"))
    with pytest.raises(ValueError, match="ours"):
        await running
    assert course.cancelled == ["ant"]


async def test_a_cancelled_race_cancels_all() -> None:
    course = Course()
    running = asyncio.create_task(course.run("ant", "bee", head_start=0.0))
    await until(lambda: course.started == ["ant", "bee"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(course.cancelled) == ["ant", "bee"]


async def test_a_race_of_nobody_fails() -> None:
    with pytest.raises(AllFailed):
        await race([], LONG, print)


def test_a_node_runs_on_uvloop_where_there_is_one_and_its_result_comes_back() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert run(main()) == ("asyncio" if sys.platform == "win32" else "uvloop")
