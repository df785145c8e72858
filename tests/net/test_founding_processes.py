"""Real nodes before a run: different options wait for `p2pfl start`, and a complete set of nodes for nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import LIGHT, Process, fleet
from tests.support.source import ROOT

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.xdist_group("founding"),
    pytest.mark.timeout(240),
]


def order(process: Process, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `p2pfl` for the node of *process*."""
    command = [sys.executable, "-P", "-m", "p2pfl", *words, f"--data-dir={folder / process.name}"]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)


async def test_different_options_wait_for_a_start_which_gives_those_of_its_device(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada = await nodes.start("ada", "--min-nodes=2", "--rounds=2", program=LIGHT)
        ben = await nodes.start("ben", "--min-nodes=2", "--rounds=3", peers=[ada], program=LIGHT)
        for process in (ada, ben):
            waiting = await process.until(events.Waiting, lambda event: event.is_mismatch)
            assert "--rounds is " in waiting.reason
            assert "2 on ada" in waiting.reason
            assert "3 on ben" in waiting.reason
        status = order(ada, tmp_path, "status")
        assert "--rounds is " in status.stdout
        done = order(ben, tmp_path, "start")
        assert done.stdout.startswith("done: the start is given, and the options of this device hold")
        for process in (ada, ben):
            joined = await process.until(events.RunJoined)
            assert joined.spec.rounds == 3
        told = ada.all(events.Waiting)[-1]
        assert (told.options_of, "--rounds 3" in told.options) == ("ben", True)
        assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
        nodes.check()


async def test_the_options_of_the_only_device_that_was_given_any_hold(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        nodes.common = ("--device=cpu", "--threads=1")
        ada = await nodes.start("ada", "--min-nodes=2", program=LIGHT)
        ben = await nodes.start("ben", "--min-nodes=2", "--rounds=2", peers=[ada], program=LIGHT)
        for process in (ada, ben):
            joined = await process.until(events.RunJoined)
            assert joined.spec.rounds == 2
        assert (await ben.until(events.RunJoined)).how == "founded"
        assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
