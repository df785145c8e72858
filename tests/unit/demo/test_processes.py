"""The demo's processes, nodes and terminal UI: ended politely, then harder, and none left behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from p2pfl import programs
from p2pfl.demo import processes
from p2pfl.demo.processes import NodeProcess, TuiProcess, describe_exit, end_all
from tests.support.processes import until

POLITE = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); print('up', flush=True)"
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True)"
FOREVER = "\nwhile True: signal.pause()"
DEAF_SCREEN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[2][11:], 'w').close()"
)
POLITE_SCREEN = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); "
    "open(sys.argv[2][11:], 'w').close()"
)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[NodeProcess]]:
    """What a test started; whatever of it runs in the end is killed."""
    nodes: list[NodeProcess] = []
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    yield nodes
    for node in nodes:
        node.kill()
        if node._process is not None:
            node._process.wait()
        node.release()


def start(folder: Path, name: str, program: str, monkeypatch: pytest.MonkeyPatch) -> NodeProcess:
    """Start *program* where a node would be started."""
    script = folder / f"{name}.py"
    script.write_text(program, encoding="utf-8")
    node = NodeProcess(name, folder)
    monkeypatch.setattr(programs, "PYTHON", (sys.executable, str(script)))
    node.start([])
    return node


def is_up(node: NodeProcess) -> bool:
    return node.last_lines(1) == ["up"]


async def test_nodes_are_ended_politely_and_by_force_where_that_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[NodeProcess]
) -> None:
    polite = start(tmp_path, "polite", POLITE + FOREVER, monkeypatch)
    deaf = start(tmp_path, "deaf", DEAF + FOREVER, monkeypatch)
    started += [polite, deaf]
    for node in started:
        await until(partial(is_up, node), "a program that is up")
    await end_all(started)
    assert polite.exit_code == 3
    assert deaf.exit_code == -signal.SIGKILL


async def test_what_a_node_prints_last_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[NodeProcess]
) -> None:
    talker = start(tmp_path, "talker", "for number in range(9): print(number, '\\n')", monkeypatch)
    started.append(talker)
    await until(lambda: talker.exit_code == 0, "the end of the talker")
    assert [line.strip() for line in talker.last_lines(3)] == ["6", "7", "8"]
    assert not talker.is_running


async def test_a_node_that_was_not_started_has_nothing_to_end(tmp_path: Path) -> None:
    node = NodeProcess("ada", tmp_path)
    await end_all([node])
    assert (node.exit_code, node.is_running, node.last_lines(3)) == (None, False, [])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (7, "ended with exit code 7"),
        (3, "left, as it was told"),
        (10, "ended untrained"),
        (-9, "was killed by SIGKILL"),
        (-99, "signal 99"),
    ],
)
def test_an_exit_code_is_said_in_words(code: int, words: str) -> None:
    assert words in describe_exit(code)


@pytest.fixture
def screen_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TuiProcess]:
    """Returns a process with some code in the place of the terminal UI; it makes the file it is opened on."""

    def make(code: str) -> TuiProcess:
        script = tmp_path / "screen.py"
        script.write_text(code, encoding="utf-8")
        monkeypatch.setattr(programs, "PYTHON", (sys.executable, str(script)))
        return TuiProcess(tmp_path)

    return make


async def test_the_terminal_ui_is_opened_on_a_node_of_the_demo(
    tmp_path: Path, screen_of: Callable[[str], TuiProcess]
) -> None:
    wanted = f"assert sys.argv[1:] == ['tui', '--data-dir=/a/node-1', '--demo={tmp_path}']"
    screen = screen_of(f"import sys; {wanted}")
    assert not screen.is_running
    screen.start(Path("/a/node-1"))
    await until(lambda: not screen.is_running, "its end")
    assert screen.exit_code == 0
    await screen.close()


async def test_the_terminal_ui_is_asked_to_end(
    tmp_path: Path, screen_of: Callable[[str], TuiProcess]
) -> None:
    screen = screen_of(POLITE_SCREEN + FOREVER)
    screen.start(tmp_path / "up")
    await until(lambda: (tmp_path / "up").exists(), "a screen that is up")
    assert screen.is_running
    await screen.close()
    assert (screen.is_running, screen.exit_code) == (False, 5)


async def test_a_terminal_ui_that_does_not_listen_is_killed(
    tmp_path: Path, screen_of: Callable[[str], TuiProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TUI_GRACE_SECONDS", 0.05)
    screen = screen_of(DEAF_SCREEN + FOREVER)
    screen.start(tmp_path / "up")
    await until(lambda: (tmp_path / "up").exists(), "a screen that is up")
    await screen.close()
    assert screen.exit_code == -9


async def test_a_terminal_ui_that_was_never_opened_has_nothing_to_close(tmp_path: Path) -> None:
    screen = TuiProcess(tmp_path)
    await screen.close()
    assert (screen.is_running, screen.exit_code) == (False, None)
