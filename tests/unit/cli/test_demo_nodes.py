"""The demo's processes: ended politely, then harder, and none left behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.cli import demo_nodes
from p2pfl.cli.demo_nodes import NodeProcess, describe_exit, end_all
from tests.support.processes import until

POLITE = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); print('up', flush=True)"
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True)"
FOREVER = "\nwhile True: signal.pause()"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[NodeProcess]]:
    """What a test started; whatever of it runs in the end is killed."""
    nodes: list[NodeProcess] = []
    monkeypatch.setattr(demo_nodes, "GRACE_SECONDS", 0.3)
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
    monkeypatch.setattr(demo_nodes, "PROGRAM", (sys.executable, str(script)))
    node.start([])
    return node


async def test_nodes_are_ended_politely_and_by_force_where_that_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[NodeProcess]
) -> None:
    polite = start(tmp_path, "polite", POLITE + FOREVER, monkeypatch)
    deaf = start(tmp_path, "deaf", DEAF + FOREVER, monkeypatch)
    started += [polite, deaf]
    for node in started:
        await until(lambda node=node: node.last_lines(1) == ["up"], "a program that is up")
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
    assert (node.pid, node.exit_code, node.is_running, node.last_lines(3)) == (None, None, False, [])


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
def test_an_exit_code_is_said_in_words(code: int, words: str):
    assert words in describe_exit(code)
