"""Real nodes whose terminal goes, is full or lacks their symbols, and whose service manager cannot wait."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.exit_codes import ExitCode
from tests.support.processes import LIGHT, Fleet, fleet, until
from tests.support.terminals import terminal

pytestmark = pytest.mark.processes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("shell", "noted"),
    [
        pytest.param('set -o pipefail; "$@" 2>/dev/null | head -1', "Broken pipe", marks=pytest.mark.long),
        ('exec "$@" >/dev/full 2>&1', "No space left on device"),
        ('exec "$@" >&- 2>&-', ""),
        pytest.param('PYTHONIOENCODING=ascii exec "$@"', "", marks=pytest.mark.long),
    ],
    ids=["reader-gone", "full", "closed", "ascii"],
)
async def test_a_node_trains_to_the_end_whatever_becomes_of_its_output(
    nodes: Fleet, shell: str, noted: str
) -> None:
    inside = ("bash", "-c", shell, "bash")
    ada = nodes.start_unheard("ada", "--min-nodes=1", "--rounds=2", inside=inside)
    await ada.until(events.RunEnded)
    assert await ada.exit_code() == 0
    assert "Traceback" not in ada.output
    log = (nodes.folder / "ada" / "logs" / "node.log").read_text(encoding="utf-8")
    told = log.count("standard output cannot be written to any more")
    assert told == (1 if noted else 0)
    assert noted in log


async def test_sigterm_ends_a_node_in_time_that_the_quorum_needs(nodes: Fleet) -> None:
    options = ["--rounds=60", "--pace=0.5", "--leave-within=1"]
    ada, ben, cleo = await nodes.start_all("ada", "ben", "cleo", options=options, program=LIGHT)
    await ada.until(events.Committed)
    cleo.end()
    await ada.until(events.PeerLost)
    ada.signal(signal.SIGTERM)
    assert await ada.exit_code() == ExitCode.LEFT
    assert "SIGTERM: left after 1 s" in ada.all(events.Ended)[-1].reason
    assert not ben.has_ended


async def test_a_node_whose_terminal_is_closed_leaves_and_says_so_in_its_log(nodes: Fleet) -> None:
    # The terminal is that of another process: when this process ends, the system closes the terminal.
    spawn = "import pty, sys; pty.spawn(sys.argv[1:])"
    inside = (sys.executable, "-c", spawn)
    ada = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT, inside=inside)
    await ada.until(events.Started)
    ada.end()
    await until(lambda: ada.all(events.Ended), "the end of the node")
    assert ada.all(events.Ended)[-1].code == ExitCode.LEFT
    log = (nodes.folder / "ada" / "logs" / "node.log").read_text(encoding="utf-8")
    assert "the terminal was closed (SIGHUP): leaving politely" in log
    assert f"ended with exit code {ExitCode.LEFT}" in log


async def test_sigterm_to_the_screen_gives_the_terminal_back(nodes: Fleet) -> None:
    ada = await nodes.start("ada", "--min-nodes=2", program=LIGHT)
    async with terminal("tui", f"--data-dir={nodes.folder / 'ada'}") as shown:
        await shown.until("listens on")
        restored_at_first = shown.is_restored
        assert not restored_at_first
        shown.process.terminate()
        assert await shown.exit_code() == 128 + signal.SIGTERM
        assert shown.is_restored
    assert not ada.has_ended
