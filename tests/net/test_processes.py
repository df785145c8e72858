"""Whole runs of real node processes: they agree, they end, they keep to their modules and memory."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from p2pfl import events
from tests.support.processes import RIGGED, Fleet, digests, fleet, trainings

pytestmark = pytest.mark.processes

IDLE_BYTES = 80 * 1024 * 1024
"""A node process waiting for peers, its worker not counted."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


async def test_three_nodes_complete_a_run_with_one_model(nodes: Fleet) -> None:
    three = await nodes.start_all("ada", "ben", "cleo", options=["--rounds=3"])
    assert [await process.exit_code() for process in three] == [0, 0, 0]
    rows = nodes.rounds()
    assert {len(journal) for journal in rows.values()} == {4}, "three rounds and the closing evaluation"
    assert all(len(found) == 1 for found in digests(rows).values())
    assert {tuple(trainings(process).items()) for process in three} == {((1, 1), (2, 1), (3, 1))}
    ended = [process.all(events.RunEnded)[0] for process in three]
    assert len({event.model for event in ended}) == 1
    assert f"run complete after 3 rounds, accuracy {ended[0].primary_value:.4f}" in three[0].output


@pytest.mark.long
@pytest.mark.xdist_group("processes")
async def test_a_node_that_leaves_politely_is_dropped_and_the_others_finish(nodes: Fleet) -> None:
    three = await nodes.start_all("ada", "ben", "cleo", options=["--rounds=6", "--pace=0.6"])
    leaver = three[2]
    await leaver.until(events.Committed)
    leaver.signal(signal.SIGINT)
    assert await leaver.exit_code() == 3
    assert [await process.exit_code() for process in three[:2]] == [0, 0]
    rows = nodes.rounds("ada", "ben")
    assert set(rows["ada"][-1].members) == {"ada", "ben"}
    assert all(len(found) == 1 for found in digests(nodes.rounds()).values())


async def test_the_node_process_never_imports_torch(nodes: Fleet, tmp_path: Path) -> None:
    rigged = (*RIGGED, f"--rig=modules:{tmp_path / 'modules'}")
    ada = await nodes.start("ada", "--min-nodes=2", "--rounds=1", program=rigged)
    ben = await nodes.start("ben", "--min-nodes=2", "--rounds=1", peers=[ada])
    assert [await ada.exit_code(), await ben.exit_code()] == [0, 0]
    modules = (tmp_path / "modules").read_text().split()
    assert "p2pfl.runtime.driver" in modules
    assert not {"torch", "torchvision", "sklearn", "pandas", "scipy"} & set(modules)


async def test_an_idle_node_process_takes_less_than_80_mb(nodes: Fleet) -> None:
    ada = await nodes.start("ada", "--min-nodes=2")
    await ada.until(events.WorkerReady)
    assert psutil.Process(ada.pid).memory_info().rss < IDLE_BYTES
