"""Disks that fail a node in the middle of a run, and data directories that are lost or put back from a backup."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.exit_codes import ExitCode
from tests.support.disks import small_disk
from tests.support.network import Network, linux_only, network
from tests.support.processes import LIGHT, Process, digests, fleet, last_round

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240), linux_only]

NAMES = ("ada", "ben", "cleo")
OPTIONS = ("--rounds=60", "--pace=0.5")
"""More than a test needs: it ends the run when it has seen enough."""


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with fleet(tmp_path) as nodes, network(nodes, *NAMES) as opened:
        yield opened


async def next_round(process: Process, count: int = 1) -> events.Committed:
    """Wait until *process* has committed *count* rounds more."""
    wanted = last_round(process) + count
    return await process.until(events.Committed, lambda event: event.round >= wanted)


async def end(net: Network) -> None:
    """End the run politely and check what is left of it."""
    for process in net.nodes.values():
        process.signal(signal.SIGINT)
    assert {await process.exit_code() for process in net.nodes.values()} <= {0, 3}
    assert all(len(found) == 1 for found in digests(net.fleet.rounds()).values())
    net.fleet.check()


def last_words(process: Process) -> str:
    """Return the last line of *process*, which is to be its only word about what ended it."""
    assert "Traceback" not in process.output
    assert "Logging error" not in process.output
    return next(
        line for line in reversed(process.output.splitlines()) if "ended: " in line or "p2pfl: " in line
    )


async def test_a_full_and_a_read_only_disk_are_told_in_a_sentence_and_the_same_command_goes_on_afterwards(
    net: Network, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "ben") as disk:
        try:
            ada, ben, _ = await net.start_all(*OPTIONS, program=LIGHT)
            await ben.until(events.Committed)
            disk.fill()
            assert await ben.exit_code() == ExitCode.DISK
            assert "disk is full" in last_words(ben)
            await next_round(ada, 2)

            disk.free()
            disk.set_writable(False)
            refused = net.again("ben")
            assert await refused.exit_code() == 2
            assert "read-only" in last_words(refused)
            await next_round(ada)

            disk.set_writable(True)
            again = net.again("ben")
            assert (await again.until(events.RunJoined)).how == "resumed"
            await again.until(events.Committed, lambda event: "ben" in event.contributors)
            await end(net)
        finally:
            net.fleet.end()


def take_copy(process: Process, source: Path, target: Path) -> None:
    """Copy the data directory of a node that runs, at one moment."""
    process.signal(signal.SIGSTOP)
    try:
        shutil.copytree(source, target)
    finally:
        process.signal(signal.SIGCONT)


@pytest.mark.parametrize("log", ["kept", pytest.param("deleted", marks=pytest.mark.nightly)])
async def test_a_copy_of_a_running_nodes_directory_is_refused_at_every_start(
    net: Network, tmp_path: Path, log: str
) -> None:
    ada, ben, _ = await net.start_all(*OPTIONS, program=LIGHT)
    await next_round(ben)
    with contextlib.closing(sqlite3.connect(tmp_path / "ben" / "journal.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    await next_round(ben, 2)
    take_copy(ben, tmp_path / "ben", tmp_path / "copy")
    await next_round(ben, 2)
    ben.end()
    shutil.rmtree(tmp_path / "ben")
    shutil.copytree(tmp_path / "copy", tmp_path / "ben")
    if log == "deleted":
        for end_of_name in ("-wal", "-shm"):
            (tmp_path / "ben" / f"journal.sqlite{end_of_name}").unlink(missing_ok=True)

    first = net.again("ben")
    assert await first.exit_code() == ExitCode.CLONED
    assert "is a copy or was restored from a backup" in last_words(first)
    assert first.all(events.RecordAccepted) == []
    await next_round(ada)
    for _ in range(2):
        later = net.again("ben")
        assert await later.exit_code() == ExitCode.CLONED
        assert "must not be used as it is, as another device has proved" in last_words(later)
        assert "--new-journal" in last_words(later)

    shutil.rmtree(tmp_path / "ben")
    shutil.copytree(tmp_path / "copy", tmp_path / "ben")
    assert await net.again("ben").exit_code() == ExitCode.CLONED, (
        "restored once more, it is found out once more"
    )

    back = net.start("ben", *OPTIONS, "--new-journal", program=LIGHT)
    await back.until(events.Committed, lambda event: "ben" in event.contributors)
    await end(net)


async def test_a_directory_from_a_backup_is_refused_and_a_lost_one_joins_as_a_learner(
    net: Network, tmp_path: Path
) -> None:
    ada, ben, _ = await net.start_all(*OPTIONS, program=LIGHT)
    await ben.until(events.Committed)
    ben.end()
    shutil.copytree(tmp_path / "ben", tmp_path / "backup")
    again = net.again("ben")
    await again.until(events.Committed, lambda event: "ben" in event.contributors)
    again.end()

    shutil.rmtree(tmp_path / "ben")
    (tmp_path / "backup").rename(tmp_path / "ben")
    restored = net.again("ben")
    assert await restored.exit_code() == ExitCode.CLONED
    assert "is a copy or was restored from a backup" in last_words(restored)
    assert "--new-journal" in last_words(restored)
    assert restored.all(events.RecordAccepted) == []
    await next_round(ada)

    shutil.rmtree(tmp_path / "ben")
    lost = net.again("ben")
    assert (await lost.until(events.RunJoined)).how == "learner"
    await lost.until(events.Committed, lambda event: "ben" in event.contributors)
    await end(net)
