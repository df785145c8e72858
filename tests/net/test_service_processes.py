"""Real nodes as services: options from a file, what the service manager is told, the journal, SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from p2pfl import events
from p2pfl.exit_codes import ExitCode
from tests.support.processes import LIGHT, Fleet, Process, fleet, until

pytestmark = pytest.mark.processes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


async def test_a_node_takes_flags_over_environment_over_file(nodes: Fleet) -> None:
    lines = ["rounds = 9", "epochs = 3", "seed = 7", "min-nodes = 1", 'partition = "iid"', "batch-size = 32"]
    (nodes.folder / "p2pfl.toml").write_text("\n".join(lines))
    variables = ("env", "P2PFL_ROUNDS=8", "P2PFL_EPOCHS=2", "P2PFL_LR=0.25", "P2PFL_LRR=1")
    nodes.common = ("--model=2nn", "--device=cpu", "--threads=1")
    ada = nodes.start_unheard("ada", "--rounds=1", inside=variables)
    spec = (await ada.until(events.RunJoined)).spec
    assert spec.rounds == 1, "the flag"
    assert (spec.training.epochs, spec.training.learning_rate) == (2, 0.25), "the environment"
    assert (spec.seed, spec.training.batch_size) == (7, 32), "the file"
    assert await ada.exit_code() == ExitCode.COMPLETE
    assert "options from p2pfl.toml: seed, min-nodes, partition, batch-size" in ada.output
    assert "the variable P2PFL_LRR is no option" in ada.output


async def test_a_wrong_file_ends_a_node_with_one_sentence(nodes: Fleet) -> None:
    (nodes.folder / "p2pfl.toml").write_text("rounds = 9\nround-cup = 3\n")
    ada = nodes.start_unheard("ada")
    assert await ada.exit_code() == ExitCode.UNFIT
    assert (
        ada.output == "p2pfl: p2pfl.toml, line 2: there is no option 'round-cup'; did you mean round-cap?\n"
    )


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets of Unix")
async def test_the_service_manager_hears_when_a_node_listens_and_that_it_ends(
    nodes: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nodes.folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")  # the whole path may be longer than a socket's may be
        manager.setblocking(False)
        inside = ("env", f"NOTIFY_SOCKET={nodes.folder / 'notify'}")
        ada = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT, inside=inside)
        heard: list[str] = []

        def hear(wanted: str) -> bool:
            try:
                heard.append(manager.recv(4096).decode())
            except BlockingIOError:
                return False
            return any(one.startswith(wanted) for one in heard)

        await until(lambda: hear("READY=1"), "the notice that it is ready", ada)
        assert "listens on 127.0.0.1:" in heard[-1]
        ada.signal(signal.SIGTERM)
        await until(lambda: hear("STOPPING=1"), "the notice that it ends", ada)
        assert await ada.exit_code() == ExitCode.LEFT


async def test_in_the_journal_lines_have_priorities_and_no_time(nodes: Fleet) -> None:
    # The output of a process is a file here; the shell says that this file is the journal.
    journal = 'export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/1); exec "$@"'
    ada = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT, inside=("bash", "-c", journal, "bash"))
    await ada.until(events.Waiting)
    ada.signal(signal.SIGTERM)
    await ada.exit_code()
    told = [line for line in ada.output.splitlines() if line]
    assert told
    assert [line for line in told if not re.match(r"<[2-7]>\D", line)] == []
    assert any(re.match("<3>✗ ended: ", line) for line in told)


async def test_sigterm_ends_a_node_that_waits(nodes: Fleet) -> None:
    ada = await nodes.start("ada", "--min-nodes=2", program=LIGHT)
    await ada.until(events.Waiting)
    ada.signal(signal.SIGTERM)
    assert await ada.exit_code() == ExitCode.LEFT


async def test_sigterm_ends_a_node_that_starts(nodes: Fleet) -> None:
    ada = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT)
    ada.signal(signal.SIGTERM)
    assert await ada.exit_code() in (-signal.SIGTERM, ExitCode.LEFT)


@pytest.mark.long
@pytest.mark.xdist_group("service")
async def test_sigterm_ends_a_node_whose_worker_hangs_and_the_worker(nodes: Fleet) -> None:
    options = ["--rounds=60", "--pace=0.5", "--leave-within=0.5"]
    ada, ben, cleo = await nodes.start_all("ada", "ben", "cleo", options=options, program=LIGHT)
    await ada.until(events.Committed)
    [worker] = workers_of(ada)
    os.kill(worker.pid, signal.SIGSTOP)
    cleo.end()
    ada.signal(signal.SIGTERM)
    assert await ada.exit_code() == ExitCode.LEFT
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "its end")
    assert not ben.has_ended


def workers_of(node: Process) -> list[psutil.Process]:
    """Return the workers of *node*."""
    return [
        one
        for one in psutil.Process(node.pid).children(recursive=True)
        if "worker" in " ".join(one.cmdline())
    ]
