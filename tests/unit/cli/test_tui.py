"""`p2pfl tui`: what it starts, and what it does where there is no terminal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfl import programs
from p2pfl.cli import load, watching
from p2pfl.cli import tui as module
from p2pfl.cli.tui import has_screen, run_tui
from p2pfl.errors import UserError


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines the terminal UI is run with, on a terminal."""
    runs: list[list[str]] = []

    def record(words: list[str]) -> int:
        runs.append(list(words))
        return 7

    monkeypatch.setattr(module, "has_screen", lambda: True)
    monkeypatch.setattr(module, "find_node", lambda *_: None)
    monkeypatch.setattr(module, "run_tui", record)
    return runs


def invoke(*words: str) -> int:
    return load("tui").main(list(words), standalone_mode=False) or 0


def test_options_are_handed_on_and_the_exit_code_comes_back(shown: list[list[str]]) -> None:
    assert invoke("h:1", "--certs", "c", "--name", "eve", "--ascii", "--theme", "light") == 7
    assert shown == [["--certs=c", "--name=eve", "--theme=light", "--ascii", "h:1"]]


def test_a_recording_is_shown_without_any_node(shown: list[list[str]]) -> None:
    invoke("--replay", "run.jsonl", "--speed", "4", "--plain", "--notify")
    assert shown == [["--replay=run.jsonl", "--speed=4", "--plain", "--notify"]]


def test_a_frame_and_a_cast_need_no_terminal(shown: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_screen", lambda: False)
    invoke("--replay", "run.jsonl", "--svg", "f.svg", "--at", "r3", "--size", "80x24", "--cast", "c.cast")
    told = ["--replay=run.jsonl", "--svg=f.svg", "--cast=c.cast", "--at=r3", "--size=80x24"]
    invoke("--replay", "run.jsonl", "--svg", "f.svg", "--animate", "--speed", "2")
    assert shown == [told, ["--replay=run.jsonl", "--svg=f.svg", "--speed=2", "--animate"]]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--svg", "f.svg"], "give one with --replay"),
        (["--replay", "r.jsonl", "--at", "r3"], "with --svg FILE"),
        (["--replay", "r.jsonl", "--cast", "c", "--at", "r3"], "with --svg FILE"),
        (["--replay", "r.jsonl", "--size", "80x24"], "with --svg FILE or --cast FILE"),
        (["--replay", "r.jsonl", "--animate"], "without --at"),
        (["--replay", "r.jsonl", "--svg", "f", "--animate", "--at", "r3"], "without --at"),
        (["--replay", "r.jsonl", "--serve", "8000", "--plain"], "go without it"),
    ],
)
def test_options_of_files_go_with_the_files(words: list[str], part: str, shown: list[list[str]]) -> None:
    with pytest.raises(UserError, match=part):
        invoke(*words)
    assert shown == []


def test_a_recording_and_a_node_do_not_go_together(shown: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one or the other"):
        invoke("--replay", "run.jsonl", "--data-dir", str(tmp_path))
    assert shown == []


@pytest.mark.parametrize("words", [["--plain"], []])
def test_without_a_screen_it_does_what_watch_does(
    words: list[str], shown: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[Any] = []
    monkeypatch.setattr(module, "has_screen", lambda: bool(words))
    monkeypatch.setattr(module, "find_node", lambda *_: "the target")
    monkeypatch.setattr(watching, "follow", followed.append)
    assert invoke(*words) == 0
    assert (followed, shown) == (["the target"], [])


@pytest.mark.parametrize(
    ("is_in", "is_out", "term", "expected"),
    [
        (True, True, "xterm", True),
        (False, True, "xterm", False),
        (True, False, "xterm", False),
        (True, True, "dumb", False),
    ],
)
def test_a_screen_is_a_terminal_on_both_ends_that_is_not_dumb(
    is_in: bool, is_out: bool, term: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: is_in, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_out, raising=False)
    monkeypatch.setenv("TERM", term)
    assert has_screen() is expected


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
    """Have *program* in the place of the terminal UI."""
    script = folder / "screen.py"
    script.write_text(program, encoding="utf-8")
    monkeypatch.setattr(programs, "PYTHON", (sys.executable, str(script)))


def test_the_exit_code_of_the_screen_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "import sys; sys.exit(0 if sys.argv[1:] == ['tui', '--ascii'] else 3)")
    assert run_tui(["--ascii"]) == 0
    assert run_tui(["--other"]) == 3


def test_a_killed_screen_has_the_exit_code_shells_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run_tui([]) == 128 + signal.SIGKILL


def test_ctrl_c_is_left_to_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os, signal, sys; os.kill(os.getppid(), signal.SIGINT); "
        "sys.exit(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)"
    )
    pretend(monkeypatch, tmp_path, program)
    before = signal.getsignal(signal.SIGINT)
    assert run_tui([]) == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_ends_the_command_ends_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(tmp_path / 'told')!r}).touch(), sys.exit()))\n"
        f"os.kill(os.getppid(), {int(number)})\n"
        "while True: signal.pause()"
    )
    pretend(monkeypatch, tmp_path, program)
    before = signal.getsignal(number)
    assert run_tui([]) == 128 + number
    assert (tmp_path / "told").exists(), "it could give the terminal back"
    assert signal.getsignal(number) == before
