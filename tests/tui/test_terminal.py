"""A real terminal: the screen takes it, and gives it back, also when it crashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfl.runtime.observing.publish import as_json
from tests.support import recordings
from tests.support.source import ROOT

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux to make a terminal with"),
]

PATIENCE_SECONDS = 40.0


class Terminal:
    """A shell in a terminal of 80x24, in a tmux server of its own."""

    def __init__(self, socket: Any) -> None:
        self.socket = str(socket)
        self.tmux(
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "env",
            "PS1=ready$ ",
            "TERM=screen-256color",
            f"TMPDIR={socket.parent}",
            "sh",
        )

    def tmux(self, *arguments: Any) -> Any:
        return subprocess.run(
            ["tmux", "-S", self.socket, "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def type(self, text: Any) -> None:
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def shows(self, text: Any) -> Any:
        """Wait until the terminal shows *text*; return all it shows."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            screen = self.tmux("capture-pane", "-p", "-J")
            if text in screen:
                return screen
        raise AssertionError(f"{text!r} is not in:\n{screen}")

    def modes(self) -> Any:
        """What a program may have left the terminal in: another screen, no cursor, the mouse taken."""
        return self.tmux(
            "display", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_flag}"
        ).strip()

    def check_echo(self) -> None:
        """See that what is typed is shown: a program that took the terminal turns that off."""
        self.type("stty -a | tr ' ' '\\n' | grep -x -e echo -e -echo")
        self.shows("\necho\n")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    made = Terminal(tmp_path / "tmux")
    made.shows("ready$")
    yield made
    made.tmux("kill-server")


@pytest.fixture
def recording(tmp_path: Path) -> Any:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in recordings.running(rounds=5)))
    return path


def test_the_terminal_is_given_back_after_quitting(terminal: Any, recording: Any) -> None:
    before = terminal.modes()
    terminal.type(f"cd {ROOT} && {sys.executable} -m tui --replay {recording} --speed 64; echo ended with $?")
    terminal.shows("Accuracy")
    assert terminal.modes() != before
    terminal.tmux("send-keys", "q")
    screen = terminal.shows("ended with 0")
    assert "Accuracy" not in screen
    assert terminal.modes() == before
    terminal.check_echo()


def test_the_terminal_is_given_back_after_a_crash(terminal: Any, recording: Any) -> None:
    before = terminal.modes()
    terminal.type(
        f"cd {ROOT} && {sys.executable} -m tests.support.failing_screen --replay {recording}; echo ended with $?"
    )
    screen = terminal.shows("ended with 70")
    assert "the screen failed (RuntimeError: a fault made for a test). The node is still running" in screen
    assert "attach again with `p2pfl tui`" in screen
    assert "Traceback" not in screen
    assert terminal.modes() == before
    terminal.check_echo()
