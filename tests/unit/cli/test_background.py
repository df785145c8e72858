"""`p2pfl node --tui`: the node in the background, the terminal UI on it, and what is said afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from p2pfl import programs
from p2pfl.cli import background as module
from p2pfl.cli import load
from p2pfl.cli import node as node_module
from p2pfl.cli.background import background_words, run_in_background
from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority, issue

STAYS = "import signal, sys; print('up', sys.argv[1:], flush=True); signal.pause()"
FAILS = "import sys; print('no port for me'); sys.exit(4)"


class Stage:
    """Programs in the place of the node and of the terminal UI."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[list[str]] = []
        self.data_dir = folder / "data"
        self.is_up = False
        self.answers: list[bool] = []
        """What a look at the node finds, one look after another; then that it is there."""
        self._folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(module, "run_tui", self._show)
        monkeypatch.setattr(module, "POLL_SECONDS", 0)
        monkeypatch.setattr(module, "_answers", lambda _: self.answers.pop(0) if self.answers else True)

    def _show(self, words: list[str]) -> int:
        self.shown.append(words)
        return 0

    def node(self, program: str) -> None:
        script = self._folder / "node.py"
        script.write_text(program, encoding="utf-8")
        self._monkeypatch.setattr(programs, "PYTHON", (sys.executable, str(script)))

    @property
    def output(self) -> Path:
        return self.data_dir / "logs" / "node.out"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    yield Stage(tmp_path, monkeypatch)
    for child in psutil.Process().children():
        child.kill()
        child.wait()


def test_the_node_gets_the_same_options_and_stays() -> None:
    words = ["--certs", "c", "--tui", "--stay", "--rounds=3"]
    assert background_words(words) == ["--certs", "c", "--rounds=3", "--stay"]


def test_the_node_gets_nothing_that_is_for_the_screen() -> None:
    words = ["--tui", "--theme", "--notify", "--theme=light", "--notify", "--lr=1"]
    assert background_words(words) == ["--lr=1", "--stay"]


def test_the_arguments_of_a_script_stay_as_they_are() -> None:
    words = ["--tui", "--script=s.py", "--", "--tui", "--theme", "x"]
    assert background_words(words) == ["--script=s.py", "--stay", "--", "--tui", "--theme", "x"]


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_the_node_outlives_the_screen(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.node(STAYS)
    stage.answers = [False, False, False]
    assert run_in_background(["--rounds=3", "--tui"], stage.data_dir) == 0
    assert stage.shown == [[f"--data-dir={stage.data_dir}"]]
    [child] = psutil.Process().children()
    assert child.cmdline()[2:] == ["p2pfl", "node", "--rounds=3", "--stay"]
    assert os.getsid(child.pid) == child.pid, "the terminal's Ctrl-C must not reach it"
    said = capsys.readouterr().out
    assert (
        said == f"the node is still running; make it leave with `p2pfl leave --data-dir {stage.data_dir}`\n"
    )


def test_a_node_that_does_not_come_up_says_why_and_is_not_shown(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.node(FAILS)
    stage.answers = [False] * 100_000
    assert run_in_background([], stage.data_dir) == 4
    assert stage.shown == []
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "no port for me",
        f"the node has ended with exit code 4; all it printed is in {stage.output}",
    ]


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_node_that_cannot_be_watched_in_time_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.0)
    stage.node(STAYS)
    stage.answers = [False]
    with pytest.raises(UserError, match=r"runs, but could not be watched within 0 s: see .*node\.out"):
        run_in_background([], stage.data_dir)


def test_a_node_that_runs_already_is_shown_as_it_is(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_background(["--rounds=9"], stage.data_dir) == 0
    assert stage.shown == [[f"--data-dir={stage.data_dir}"]]
    assert psutil.Process().children() == []
    assert "runs on" in capsys.readouterr().out


def test_the_command_line_is_handed_on_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_authority(tmp_path / "ca")
    certs = issue(tmp_path / "ca", "ada")
    runs: list[tuple[list[str], Path, list[str]]] = []

    def record(words: list[str], data_dir: Path, screen: list[str]) -> int:
        runs.append((list(words), data_dir, screen))
        return 6

    monkeypatch.setattr(node_module, "has_screen", lambda: True)
    monkeypatch.setattr(module, "run_in_background", record)
    words = ["--certs", str(certs), "--tui", "--data-dir", str(tmp_path / "d"), "--lr=0.1"]
    assert load("node").main(words, standalone_mode=False) == 6
    assert runs.pop() == (words, tmp_path / "d", [])
    words += ["--theme", "nord", "--notify"]
    assert load("node").main(words, standalone_mode=False) == 6
    assert runs.pop() == (words, tmp_path / "d", ["--theme=nord", "--notify"])


def test_options_of_the_screen_need_a_screen(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca")
    words = [f"--certs={issue(tmp_path / 'ca', 'ada')}", f"--data-dir={tmp_path / 'd'}", "--notify"]
    with pytest.raises(UserError, match="--notify is for the terminal UI: give --tui too"):
        load("node").main(words, standalone_mode=False)


def test_the_screen_gets_its_options(stage: Stage) -> None:
    assert run_in_background([], stage.data_dir, ["--theme=nord", "--notify"]) == 0
    assert stage.shown == [[f"--data-dir={stage.data_dir}", "--theme=nord", "--notify"]]
