from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfl.errors import NetworkError
from p2pfl.events import Published
from p2pfl.runtime.publish import as_json
from p2pfl.streams import PIPE_EXIT
from p2pfl.wire.observing import Greeting
from tests.support.recordings import hostile, running
from tests.support.source import ROOT
from tui.plain import run_plain
from tui.source import Connected, Live, Over, Replay


def write(path: Path, recording: list[Published]) -> Path:
    path.write_bytes(b"".join(as_json(item) + b"\n" for item in recording))
    return path


class FakeLive(Live):
    """A node that tells a recording and ends, or does not answer."""

    def __init__(self, recording: list[Published], failure: NetworkError | None = None) -> None:
        self._recording = recording
        self._failure = failure

    async def run(self, deliver: Any, tell: Any, anew: Any) -> None:
        if self._failure is not None:
            raise self._failure
        tell(Connected(Greeting(1, "0", "n", "id", "f", "who", "observer", (), "s", resumed=False)))
        for item in self._recording:
            deliver(item)
        anew()
        for item in self._recording:
            deliver(item)
        tell(Over("the run is complete"))


def test_a_recording_is_one_line_for_each_event_that_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_plain(Replay(write(tmp_path / "r.jsonl", running()))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("11:50:00 · lab-desktop (")
    assert sum(" ✓ round " in line for line in lines) == 41
    assert len(lines) < len(running())


def test_names_cannot_reach_the_terminal_as_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_plain(Replay(write(tmp_path / "r.jsonl", hostile())))
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\x1b" not in out


def test_damaged_lines_are_told_apart_from_the_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "r.jsonl", running())
    path.write_bytes(path.read_bytes() + b"half a li")
    assert run_plain(Replay(path)) == 0
    assert "1 unreadable lines were left out" in capsys.readouterr().err


def test_a_node_is_told_of_until_it_ends_and_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_plain(FakeLive(running())) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "-- connected to n of f as who"
    assert lines[-1] == "-- the run is complete"
    assert len(set(lines)) == len(lines)


def test_a_node_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(NetworkError, match="refused"):
        run_plain(FakeLive([], NetworkError("refused")))


@pytest.mark.processes
def test_whoever_reads_may_stop_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", running(rounds=400))
    command = [sys.executable, "-m", "tui", "--plain", "--replay", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (PIPE_EXIT, b"")
