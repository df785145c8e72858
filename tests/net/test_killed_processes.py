"""The aggregator is killed at the worst moments: the round commits, one model, and nobody trains again."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import RIGGED, Fleet, Process, digests, fleet, trainings, until
from tests.support.rigged_node import victim_file

pytestmark = [pytest.mark.processes, pytest.mark.long]

NAMES = ("ada", "ben", "cleo", "dan", "eve")
ROUND = 2
"""In which the aggregator dies."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("moment", ["counted", "accept-sent", "accepted-heard"])
async def test_the_round_survives_its_aggregator(nodes: Fleet, moment: str) -> None:
    rigged = (*RIGGED, f"--rig=light,{moment}:{ROUND}")
    five = await nodes.start_all(*NAMES, options=["--rounds=3"], program=rigged)
    victim = await death_of(five)
    survivors = [process for process in five if process is not victim]
    for process in survivors:
        await process.until(events.RunEnded)
    for process in survivors:  # the run is complete; they only wait for the dead one to come back
        process.signal(signal.SIGINT)
    assert [await process.exit_code() for process in survivors] == [0] * 4

    assert await victim.exit_code() == -signal.SIGKILL
    assert (nodes.folder / victim_file(moment)).read_text() == str(victim.pid), "it died where it was to die"
    elected = {event.attempt for event in survivors[0].all(events.Elected) if event.round == ROUND}
    assert max(elected) > 1, "the round needed another aggregator"
    for process in survivors:
        assert trainings(process) == {1: 1, 2: 1, 3: 1}, "each survivor trained once a round"
        assert process.all(events.UpdateReused) == []
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    assert {len(rows[process.name]) for process in survivors} == {4}
    nodes.check()


async def death_of(processes: list[Process]) -> Process:
    """Wait until one of *processes* has died; return it."""
    return await until(lambda: next((one for one in processes if one.has_ended), None), "a death")
