"""How a node takes Ctrl-C, SIGTERM, SIGHUP and the end of the program that started it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from p2pfl.core import inputs
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime import leaving as module
from p2pfl.runtime.leaving import Leaving, end_with_input, signals, watch_input
from tests.support.processes import until


class Recorded:
    """A driver that takes note."""

    def __init__(self) -> None:
        self.fed: list[object] = []
        self.ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.told: list[str] = []

    def feed(self, event: object) -> None:
        self.fed.append(event)

    def publish(self, event: Any) -> None:
        self.told.append(event.text)

    def end(self, code: int, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result((code, reason))


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let no SIGTERM of a test end the process of the tests."""
    if "hangs" not in request.node.name:
        monkeypatch.setattr(module, "end_process_within", lambda _seconds: None)


def no_reload() -> None:
    raise AssertionError("nothing asked for this")


def leaving(within: float = 60.0) -> tuple[Recorded, Leaving]:
    driver = Recorded()
    return driver, Leaving(driver, within)  # type: ignore[arg-type]


async def test_ctrl_c_leaves_politely_without_a_limit_and_at_once_when_it_comes_again() -> None:
    driver, leave = leaving(within=0.0)
    leave.interrupt()
    await asyncio.sleep(0)
    assert driver.fed == [inputs.Leave()]
    assert not driver.ended.done()
    leave.interrupt()
    assert (await driver.ended)[0] == ExitCode.INTERRUPTED


async def test_sigterm_leaves_politely_and_ends_within_its_limit() -> None:
    driver, leave = leaving(within=0.01)
    leave.terminate()
    assert driver.fed == [inputs.Leave()]
    assert driver.told == ["SIGTERM: leaving politely, within 0.01 s"]
    code, reason = await driver.ended
    assert code == ExitCode.LEFT
    assert "SIGTERM: left after 0.01 s without a commit" in reason


async def test_sigterm_ends_the_process_also_if_closing_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(module, "CLOSE_WITHIN", 0.01)
    _, leave = leaving(within=0.0)
    leave.terminate()
    await until(lambda: bool(ended), "the end of the process")
    assert ended == [ExitCode.LEFT]


async def test_ctrl_c_and_a_program_s_own_wish_have_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(module, "end_process_within", limits.append)
    for act in (Leaving.interrupt, Leaving.hang_up, Leaving.ask):
        act(leaving(within=0.0)[1])
    assert limits == []
    _, leave = leaving(within=2.0)
    leave.terminate()
    leave.terminate()
    assert limits == [2.0 + module.CLOSE_WITHIN, module.CLOSE_WITHIN]


async def test_sigterm_after_another_request_to_leave_stops_at_once() -> None:
    driver, leave = leaving()
    assert leave.ask()
    leave.terminate()
    assert (await driver.ended)[0] == ExitCode.INTERRUPTED


async def test_a_closed_terminal_sends_several_sighups_that_count_as_one() -> None:
    driver, leave = leaving(within=0.01)
    for _ in range(3):
        leave.hang_up()
    assert driver.fed == [inputs.Leave()]
    assert not driver.ended.done()
    code, reason = await driver.ended
    assert code == ExitCode.LEFT
    assert "the terminal was closed" in reason


async def test_a_sighup_after_a_polite_request_leaves_that_its_time() -> None:
    driver, leave = leaving(within=0.0)
    leave.interrupt()
    leave.hang_up()
    for _ in range(3):  # a limit of no time would end it within these turns of the loop
        await asyncio.sleep(0)
    assert not driver.ended.done()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
async def test_signals_are_taken_meanwhile(name: str) -> None:
    driver, leave = leaving()
    with signals(leave, no_reload, has_terminal=lambda: True):
        os.kill(os.getpid(), getattr(signal, name))
        await until(lambda: bool(driver.fed), "the signal is taken")
    assert driver.fed == [inputs.Leave()]


async def test_sighup_reloads_where_there_is_no_terminal_and_a_node_that_leaves_goes_on_leaving() -> None:
    driver, leave = leaving()
    reloaded: list[bool] = []
    with signals(leave, lambda: reloaded.append(True), has_terminal=lambda: False):
        for expected in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: len(reloaded) == expected, "the signal is taken")  # noqa: B023 - waits here
            leave.ask()
    assert driver.fed == [inputs.Leave()]


def test_a_process_in_a_session_of_its_own_has_no_terminal() -> None:
    code = "from p2pfl.runtime.leaving import has_controlling_terminal; print(has_controlling_terminal())"
    ended = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "False"


async def test_a_sighup_that_was_ignored_from_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _, leave = leaving()
        with signals(leave, no_reload):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("wait", [False, True])
async def test_a_node_ends_with_the_pipe_that_its_starter_holds(
    monkeypatch: pytest.MonkeyPatch, wait: bool
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(
        "p2pfl.runtime.leaving.watch_input",
        lambda on_end, on_line: watch_input(on_end, descriptor=reading, on_line=on_line),
    )
    driver, _ = leaving()
    end_with_input(driver, wait=wait)  # type: ignore[arg-type]
    os.write(writing, b"a line is no end\n")
    assert not driver.ended.done()
    if wait:
        await until(lambda: driver.fed == [inputs.Go()], "the line starts the run that is held back")
    os.write(writing, b"and starts nothing twice\n")
    os.close(writing)
    async with asyncio.timeout(5):
        assert await driver.ended == (ExitCode.LEFT, "the program that started this node has ended")
    os.close(reading)
    assert driver.fed == ([inputs.Go()] if wait else [])
