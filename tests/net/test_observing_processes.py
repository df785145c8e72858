"""Real nodes, watched and commanded as people do it: by data directory, over the network, with a certificate."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue
from tests.support.processes import LIGHT, PATIENCE_SECONDS, address_of, fleet, last_round, until
from tests.support.source import ROOT
from tests.support.terminals import terminal

pytestmark = pytest.mark.processes

LONG = "--rounds=100000"
"""More than a test sees."""


class Said:
    """What a command came to."""

    def __init__(self, code: int | None, output: bytes, errors: bytes) -> None:
        self.code = code
        self.output = output.decode()
        self.errors = errors.decode()

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


async def begin(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "p2pfl", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell lets what it starts in the background ignore Ctrl-C, and these tests may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


async def finish(process: asyncio.subprocess.Process) -> Said:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode, output, errors)


async def run(*words: str) -> Said:
    """Run `p2pfl` with *words* to its end."""
    return await finish(await begin(*words))


def is_file(path: str) -> bool:
    return Path(path).is_file()


class Watching:
    """`p2pfl watch`, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, words: str, *, errors: bool = False) -> str:
        """Return the next line with *words*."""
        stream = self.process.stderr if errors else self.process.stdout
        assert stream is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := (await stream.readline()).decode():
                self.lines.append(line)
                if words in line:
                    return line
        raise AssertionError(f"{words!r} is not in {self.lines}")


@asynccontextmanager
async def watching(*words: str) -> AsyncIterator[Watching]:
    process = await begin("watch", *words)
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_federation_is_started_paused_resumed_saved_and_stopped_from_outside(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada, ben = await nodes.start_all("ada", "ben", options=(LONG, "--wait"), program=LIGHT)
        at_ada, at_ben = f"--data-dir={tmp_path / 'ada'}", f"--data-dir={tmp_path / 'ben'}"
        early = await run("pause", at_ada)
        assert (early.code, early.errors) == (1, "refused: this node is in no run yet\n"), early
        for place in (at_ada, at_ben):
            told = (await run("start", place)).output
            assert told.startswith("done: the start is given, and the options of this device hold")
            assert ("when somebody presses Enter on ben" in told) == (place == at_ada)
        await until(lambda: last_round(ada) > 2 and last_round(ben) > 2, "some rounds")
        assert (await run("pause", at_ben)).output == "done: the run pauses with the next commit\n"
        await ada.until(events.Committed, lambda commit: commit.then == "pause")
        status: dict[str, Any] = json.loads((await run("status", "--json", at_ada)).output)
        assert (status["name"], status["phase"], status["rounds"]) == ("ada", "paused", 100000)
        assert sorted(status["members"]) == ["ada", "ben"]
        assert status["memory"] > 0
        assert (await run("resume", at_ada)).output == "done: the run continues\n"
        await until(lambda: last_round(ada) > status["round"] + 1, "a round after the pause")
        saved = await run("save", at_ada)
        assert is_file(saved.output.removeprefix("done: saved as ").rstrip("\n")), saved
        assert (await run("stop", "--now", at_ada)).code == 0
        assert (await ada.exit_code(), await ben.exit_code()) == (0, 0)
        over = await run("status", at_ada)
        assert over.code == 2
        assert "no node runs on the data directory" in over.errors


@pytest.mark.long
@pytest.mark.xdist_group("observing")
async def test_over_the_network_the_certificate_says_who_may_what(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    async with fleet(tmp_path) as nodes:
        ada = await nodes.start("ada", LONG, "--min-nodes=1", program=LIGHT)
        await until(lambda: last_round(ada) > 0, "a round")
        for name, role in (("owl", "observer"), ("eve", "operator")):
            made = await run("certs", "issue", name, "--role", role, "--certs", str(certs))
            assert made.code == 0, made
        as_owl = (address_of(ada), f"--certs={certs}", "--name=owl")
        as_eve = (address_of(ada), f"--certs={certs / 'eve'}")
        assert "watched as owl (observer)" in (await run("status", *as_owl)).output
        refused = await run("pause", *as_owl)
        assert (refused.code, refused.output) == (1, "")
        assert "refused: owl (observer) may watch, not command" in refused.errors
        assert (await run("pause", *as_eve)).code == 0
        await ada.until(events.Commanded, lambda one: (one.who, one.what) == ("eve (operator)", "pause"))
        refused = await run("leave", *as_eve)
        assert "refused: only the local user of a node can make it leave" in refused.errors
        as_node = await run("status", address_of(ada), f"--certs={issue(certs, 'ben')}")
        assert as_node.code == 2
        assert "a node cannot be an observer" in as_node.errors
        create_authority(tmp_path / "other", "other")
        stranger = issue(tmp_path / "other", "eve", "operator")
        strange = await run("status", address_of(ada), f"--certs={stranger}")
        assert strange.code == 2
        assert strange.errors.startswith(f"p2pfl: No connection with {address_of(ada)}: ")
        assert strange.errors.count("\n") == 1
        assert "Traceback" not in strange.errors


@pytest.mark.long
@pytest.mark.xdist_group("observing")
async def test_watching_goes_on_after_the_node_was_killed_and_started_again(tmp_path: Path) -> None:
    at_ada = f"--data-dir={tmp_path / 'ada'}"
    async with fleet(tmp_path) as nodes:
        ada = await nodes.start("ada", LONG, "--min-nodes=1", program=LIGHT)
        async with watching(at_ada) as seen:
            await seen.until("-- connected to ada", errors=True)
            await seen.until(" committed by ada")
            ada.end()
            await seen.until("-- no connection, trying again", errors=True)
            dead = await run("status", at_ada)
            assert f"(process {ada.pid}) was killed" in dead.errors
            again = await nodes.start("ada", LONG, "--min-nodes=1", program=LIGHT)
            await seen.until("-- connected to ada", errors=True)
            await seen.until("resumed run")
            await seen.until(" committed by ada")
            commits = [line.split(" committed")[0][9:] for line in seen.lines if " committed by " in line]
            # A commit is told a moment before it has to be on disk: the last one may be decided, and told, again.
            assert len(commits) - len(set(commits)) <= 1
            assert (await run("leave", at_ada)).code == 0
            await seen.until("-- ", errors=True)
            assert (await finish(seen.process)).code == 0
        assert await again.exit_code() == 3


async def test_ctrl_c_ends_watching_with_0_and_nothing_else(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        ada = await nodes.start("ada", LONG, "--min-nodes=1", program=LIGHT)
        async with watching(f"--data-dir={tmp_path / 'ada'}", "--json") as seen:
            line = await seen.until('"event":"committed"')
            assert json.loads(line)["aggregator"] == "ada"
            seen.process.send_signal(signal.SIGINT)
            said = await finish(seen.process)
            assert (said.code, "Traceback" in said.errors) == (0, False), said
        assert not ada.has_ended


@pytest.mark.long
@pytest.mark.xdist_group("observing")
async def test_a_node_outlives_the_screen_it_was_started_with(tmp_path: Path) -> None:
    certs, place = tmp_path / "certs", tmp_path / "ada"
    create_authority(certs, "lab")
    issue(certs, "ada")
    at_ada = f"--data-dir={place}"
    words = ("node", f"--certs={certs}", at_ada, "--listen=127.0.0.1:0", "--min-nodes=1", "--model=2nn", LONG)
    async with terminal(*words, "--device=cpu", "--threads=1", "--pace=0.2", "--tui") as shown:
        await shown.until("Overview")
        shown.press("q")
        assert await shown.exit_code() == 0, shown.text[-4000:]
        assert shown.is_restored
        found = re.search(r"the node is still running \(process (\d+)\)", shown.text)
        assert found, shown.text[-4000:]
    node = psutil.Process(int(found[1]))
    try:
        assert "\nnode        ada (" in "\n" + (await run("status", at_ada)).output
        async with terminal("tui", at_ada) as again:
            await again.until("Overview")
            again.press("q")
            assert await again.exit_code() == 0
        assert (await run("leave", at_ada)).code == 0
        await until(lambda: not node.is_running(), "the end of the node")
    finally:
        if node.is_running():
            node.kill()


async def test_a_node_that_cannot_start_says_so_instead_of_a_screen(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    create_authority(certs, "lab")
    issue(certs, "ada")
    words = ("node", f"--certs={certs}", f"--data-dir={tmp_path / 'ada'}", "--listen=192.0.2.1:5", "--tui")
    async with terminal(*words) as shown:
        assert await shown.exit_code() == 2, shown.text
        assert "p2pfl: " in shown.text
        assert "the node has ended with exit code 2; all it printed is in " in shown.text
        assert shown.is_restored
