"""The commands `invite`, `join` and `up` on real processes, up to a run of the nodes that have joined."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl.enrolment.invitation import INVITATION_FILE
from p2pfl.exit_codes import ExitCode
from p2pfl.identity.authority import create_authority, list_certificates
from p2pfl.identity.known_peers import read_known_peers
from tests.support.processes import QUICK, Fleet, fleet, until
from tests.support.source import ROOT
from tests.support.terminals import Terminal, terminal

pytestmark = pytest.mark.processes

LINE = re.compile(r"p2pfl join (127\.0\.0\.1:\d+) (\w+-\w+-\w+)")


class Command:
    """A p2pfl command without a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._output = folder / f"{words[0]}.{len(list(folder.iterdir()))}.out"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "p2pfl", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    async def until(self, pattern: re.Pattern[str]) -> re.Match[str]:
        return await until(lambda: pattern.search(self.output), pattern.pattern)

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        await until(lambda: self._process.poll() is not None, "the end")
        return int(self._process.returncode)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Shell:
    """Runs commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Command] = []

    def start(self, *words: str) -> Command:
        self._started.append(Command(self.folder, *words))
        return self._started[-1]

    async def run(self, *words: str) -> tuple[int, str]:
        """Return exit code and output of a command."""
        command = self.start(*words)
        return await command.ended(), command.output

    def end(self) -> None:
        for command in self._started:
            command.end()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    (tmp_path / "shell").mkdir()
    one = Shell(tmp_path / "shell")
    yield one
    one.end()


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


async def test_three_devices_join_and_train(shell: Shell, nodes: Fleet) -> None:
    create_authority(shell.folder / "ca", "lab")
    inviting = shell.start("invite", "--certs=ca", "--yes", "--count=3", "--listen=127.0.0.1:0")
    address, code = (await inviting.until(LINE)).groups()
    names = ("ada", "ben", "cleo")
    joins = [shell.start("join", address, code, f"--name={name}", f"--certs={name}") for name in names]
    assert [await one.ended() for one in joins] == [0, 0, 0], [one.output for one in joins]
    assert await inviting.ended() == 0
    assert "The invitation has ended: all seats are taken" in inviting.output
    assert not (shell.folder / "ca" / INVITATION_FILE).exists()
    assert "Next: p2pfl node --certs ada/ada" in joins[0].output

    common = ("--min-nodes=3", "--rounds=1")
    ada = await nodes.start("ada", *common, certs=shell.folder / "ada")
    others = [await nodes.start(name, *common, peers=[ada], certs=shell.folder / name) for name in names[1:]]
    assert [await node.exit_code() for node in (ada, *others)] == [0, 0, 0]
    nodes.check()


async def test_refusals_end_with_a_sentence_and_leave_no_file(shell: Shell) -> None:
    create_authority(shell.folder / "ca", "lab")
    inviting = shell.start("invite", "--certs=ca", "--yes", "--listen=127.0.0.1:0")
    address, _ = (await inviting.until(LINE)).groups()
    code, said = await shell.run("join", address, "zebra zebra zebra", "--name=eve", "--certs=eve")
    assert code == ExitCode.UNFIT
    assert "did not accept the code" in said
    assert said.count("\n") == 2, "one line that it joins, one that it may not"
    code, said = await shell.run("join", address, "zebra zebro zebra", "--name=eve", "--certs=eve")
    assert (code, "Joining" in said) == (ExitCode.UNFIT, False)
    assert re.search("'zebro' is in no code: did you mean .*zebra", said)
    inviting.signal(signal.SIGINT)
    assert await inviting.ended() == ExitCode.INTERRUPTED
    assert "it was stopped here" in inviting.output
    code, said = await shell.run("join", address, "zebra zebra zebra", "--name=eve", "--certs=eve")
    assert (code, "nothing listens there. If there was one, it has ended" in said) == (2, True)
    assert not (shell.folder / "eve").exists()
    assert list_certificates(shell.folder / "ca") == []
    assert not (shell.folder / "ca" / INVITATION_FILE).exists()


async def test_an_invitation_that_expires_with_free_seats_ends_with_an_error(shell: Shell) -> None:
    create_authority(shell.folder / "ca", "lab")
    code, said = await shell.run("invite", "--certs=ca", "--yes", "--ttl=1s", "--listen=127.0.0.1:0")
    assert (code, "its time is over" in said) == (ExitCode.FAILED, True)


async def test_a_killed_inviter_goes_on_with_its_code(shell: Shell) -> None:
    create_authority(shell.folder / "ca", "lab")
    words = ("invite", "--certs=ca", "--yes", "--listen=127.0.0.1:0")
    inviting = shell.start(*words)
    line = (await inviting.until(LINE)).groups()
    inviting.signal(signal.SIGKILL)
    await inviting.ended()
    again = shell.start(*words)
    await again.until(re.compile("An earlier invitation goes on"))
    found = LINE.search(again.output)
    assert found is not None
    assert found[2] == line[1]


@pytest.mark.long
@pytest.mark.xdist_group("enrolment")
async def test_up_asks_about_a_device_and_starts_with_enter(shell: Shell, tmp_path: Path) -> None:
    certs, data = shell.folder / "certs", shell.folder / "data"
    words = ["--name=ada", f"--certs={certs}", f"--data-dir={data}", "--listen=127.0.0.1:0", "--rounds=1"]
    async with terminal("up", *words, "--federation=lab", *QUICK) as first:
        address, code = (await seen(first, LINE)).groups()
        (port,) = (await seen(first, re.compile(r"listens on 127\.0\.0\.1:(\d+)"))).groups()
        joining = shell.start("join", address, code, "--name=ben", "--certs=ben")
        await seen(first, re.compile(r"\? ben \(\w{7}\) at 127\.0\.0\.1 wants to join"))
        first.press("\n")  # meant for the start: the question comes again
        await seen(first, re.compile(r"wants to join.*wants to join", re.DOTALL))
        first.press("y\n")
        assert await joining.ended() == 0, joining.output
        assert read_known_peers(shell.folder / "ben" / "ben") == {}, "port 0 says nobody where the node is"
        options = [f"--peers=127.0.0.1:{port}", "--listen=127.0.0.1:0", "--data-dir=ben-data", *QUICK]
        ben = shell.start("node", "--certs=ben", "--rounds=1", *options)
        await seen(first, re.compile(r"ben \(\w{7}\) linked"))
        await seen(first, re.compile("waiting: the training begins when somebody presses Enter on"))
        first.press("\n")
        await seen(first, re.compile("round 1 committed"))
        assert await ben.ended() == 0, ben.output
        assert await asyncio.to_thread(first.process.wait, 60) == 0
    assert {one.name for one in list_certificates(certs)} == {"ada", "ben"}


@pytest.mark.long
@pytest.mark.xdist_group("enrolment")
async def test_ctrl_c_at_up_ends_the_node_politely_and_up_goes_on_later(shell: Shell) -> None:
    words = (
        "up",
        "--name=ada",
        "--yes",
        "--listen=127.0.0.1:0",
        "--data-dir=data",
        "--certs=certs",
        "--count=1",
    )
    first = shell.start(*words, *QUICK)
    await first.until(re.compile("listens on"))
    assert "The training starts by itself when another device is linked" in first.output
    first.signal(signal.SIGINT)
    assert await first.ended() == ExitCode.LEFT
    again = shell.start(*words, *QUICK)
    await again.until(re.compile("listens on"))
    again.signal(signal.SIGTERM)
    assert await again.ended() == ExitCode.LEFT
    (ada,) = list_certificates(shell.folder / "certs")
    assert ada.name == "ada"
    assert "Made the federation" in first.output
    assert "Made the federation" not in again.output


async def seen(shown: Terminal, pattern: re.Pattern[str]) -> re.Match[str]:
    return await until(lambda: pattern.search(shown.text), f"{pattern.pattern} in {shown.text}")
