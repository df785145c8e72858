"""Nodes that are started again: in the middle of a run, after its end, with more rounds, or one too many."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import LIGHT, Fleet, digests, fleet, trainings

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("restarted")]


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


async def test_a_killed_node_started_again_resumes_and_the_run_completes(nodes: Fleet) -> None:
    options = ("--min-nodes=2", "--rounds=4")
    ada, ben = await nodes.start_all("ada", "ben", options=options)
    await ben.until(events.Committed, lambda event: event.round == 2)
    ben.signal(signal.SIGKILL)
    assert await ben.exit_code() == -signal.SIGKILL
    lost = await ada.until(events.QuorumLost)
    assert (lost.reachable, lost.members, lost.needed) == (1, 2, 2)

    again = await nodes.start("ben", *options, peers=[ada])
    resumed = await again.until(events.RunJoined)
    assert resumed.how == "resumed"
    assert resumed.round >= 1, "round 2 was told of a moment before it had to be on disk"
    assert [await process.exit_code() for process in (ada, again)] == [0, 0]
    rows = nodes.rounds()
    assert {len(journal) for journal in rows.values()} == {5}
    assert all(len(found) == 1 for found in digests(rows).values())
    assert {len(row.updates) for row in rows["ada"][:4]} == {2}
    assert trainings(ada) == {1: 1, 2: 1, 3: 1, 4: 1}, "the pause cost no training"


async def test_a_model_damaged_on_disk_is_told_pulled_again_and_not_trained_on(nodes: Fleet) -> None:
    options = ("--min-nodes=2", "--rounds=4")
    ada, ben = await nodes.start_all("ada", "ben", options=options)
    await ben.until(events.Committed, lambda event: event.round == 2)
    ben.signal(signal.SIGKILL)
    assert await ben.exit_code() == -signal.SIGKILL
    await ada.until(events.QuorumLost)
    blobs = [marker.with_suffix("") for marker in (nodes.folder / "ben" / "blobs").glob("*.durable")]
    assert blobs
    for path in blobs:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1  # the last bit of a weight: still a model, and finite
        path.write_bytes(content)

    again = await nodes.start("ben", *options, peers=[ada])
    notice = await again.until(events.Notice, lambda event: "damaged" in event.text)
    assert "pulled again from peers before it is used" in notice.text
    assert [await process.exit_code() for process in (ada, again)] == [0, 0]
    nodes.check()
    assert {len(row.updates) for row in nodes.rounds()["ada"][:4]} == {2}


async def test_the_same_command_after_the_end_says_complete_and_a_higher_number_of_rounds_goes_on(
    nodes: Fleet,
) -> None:
    first = await nodes.start_all("ada", "ben", options=["--rounds=2"], program=LIGHT)
    assert [await process.exit_code() for process in first] == [0, 0]
    before = nodes.rounds()

    second = await nodes.start_all("ada", "ben", options=["--rounds=2"], program=LIGHT)
    assert [await process.exit_code() for process in second] == [0, 0]
    assert [process.all(events.RunJoined)[0].how for process in second] == ["finished", "finished"]
    assert "has ended in this data directory, after round 2" in second[0].output
    assert nodes.rounds() == before

    third = await nodes.start_all("ada", "ben", options=["--rounds=4"], program=LIGHT)
    assert [await process.exit_code() for process in third] == [0, 0]
    assert third[0].all(events.OptionsIgnored) == []
    after = nodes.rounds()
    assert [row.kind for row in after["ada"]] == ["train", "train", "evaluate", "train", "train", "evaluate"]
    assert [row.record for row in after["ada"][:3]] == [row.record for row in before["ada"]]
    assert all(len(found) == 1 for found in digests(after).values())
    assert [row.training_round for row in after["ada"] if row.kind == "train"] == [1, 2, 3, 4]
    assert "round 4 committed by" in third[0].output
    assert "round 5" not in third[0].output


async def test_a_second_node_on_one_data_directory_is_told_so(nodes: Fleet) -> None:
    ada = await nodes.start("ada", "--min-nodes=2", program=LIGHT)
    second = nodes.start_unheard("ada", "--min-nodes=2", program=LIGHT)
    assert await second.exit_code() == 2
    assert f"is in use by process {ada.pid}; one node runs per directory" in second.output
    assert "Traceback" not in second.output
    assert not ada.has_ended
