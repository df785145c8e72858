"""Values of the system that it hides are neutral values, whatever psutil makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from p2pfl.runtime.observing import system_info
from p2pfl.runtime.observing.system_info import Usage


@pytest.fixture(
    params=[RuntimeError("line 'btime' not found"), KeyError("MemTotal:"), psutil.NoSuchProcess(1)]
)
def hidden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that tells nothing."""

    def refuse(*_: object) -> object:
        raise request.param

    for name in ("cpu_count", "virtual_memory"):
        monkeypatch.setattr(psutil, name, refuse)
    for name in ("create_time", "cpu_times", "memory_info"):
        monkeypatch.setattr(psutil.Process, name, refuse)
    monkeypatch.setattr(Path, "read_text", refuse)


def test_values_are_those_of_the_system() -> None:
    assert system_info.count_cores() >= 1
    assert system_info.total_memory() > 2**20
    assert 0 < system_info.process_start() <= time.time()
    assert system_info.usage_of(os.getpid()).memory > 2**20


@pytest.mark.usefixtures("hidden")
def test_hidden_values_are_neutral() -> None:
    assert system_info.count_cores() >= 1
    assert system_info.total_memory() == 0
    assert abs(system_info.process_start() - time.time()) < 1
    assert system_info.usage_of(os.getpid()) == Usage(0.0, 0)


def test_the_start_of_a_process_lies_between_its_call_and_its_first_line() -> None:
    show = "from p2pfl.runtime.observing.system_info import process_start; print(process_start())"
    code = f"import time; first = time.time(); {show}; print(first)"
    tick = 1 / os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 0.01
    called = time.time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, first = map(float, done.stdout.split())
    assert called - tick <= started <= first + tick


def test_a_process_runs_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert system_info.is_running(process.pid)
        assert process.stdin is not None
        process.stdin.close()
    assert not system_info.is_running(process.pid)


@pytest.mark.parametrize("pid", [0, -1, 2**80])
def test_a_number_that_no_process_can_have_is_none(pid: int) -> None:
    assert not system_info.is_running(pid)
