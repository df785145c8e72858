from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.events import Published
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.observing.publish import as_json
from tests.support.recordings import hostile, running
from tests.support.source import ROOT
from tui.__main__ import main


def write(path: Path, recording: list[Published]) -> Path:
    path.write_bytes(b"".join(as_json(item) + b"\n" for item in recording))
    return path


def test_a_recording_is_one_line_for_each_event_that_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--plain", "--replay", str(write(tmp_path / "r.jsonl", running()))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("11:50:00 · lab-desktop (")
    assert sum(" ✓ round " in line for line in lines) == 41
    assert len(lines) < len(running())


def test_names_cannot_reach_the_terminal_as_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--plain", "--replay", str(write(tmp_path / "r.jsonl", hostile()))])
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\x1b" not in out


def test_damaged_lines_are_told_apart_from_the_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "r.jsonl", running())
    path.write_bytes(path.read_bytes() + b"half a li")
    assert main(["--plain", "--replay", str(path)]) == 0
    assert "1 unreadable lines were left out" in capsys.readouterr().err


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
    assert (process.returncode, errors) == (ExitCode.READER_GONE, b"")
