"""The state of a strategy, and what devices remember, survive the death of an aggregator, byte for byte."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import psutil
import pytest

from p2pfl import events
from p2pfl.messages import RecordBlobs
from p2pfl.store.directory import DataDirectory
from tests.support.processes import RIGGED, Fleet, Process, digests, fleet, trainings, until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(300)]

NAMES = ("ada", "ben", "cleo")
ROUND = 2
"""In which the aggregator dies: a majority has accepted its record, and nobody knows that it is decided."""

OPTIONS = ("--rounds=4", "--partition=dirichlet:0.5")
SLOW = "--pace=5"
"""Seconds that a training takes at least, so that none ends between the death and the suspension of workers."""


@pytest.mark.parametrize(
    ("strategy", "has_state"),
    [
        pytest.param(("--strategy=fedadam",), True, marks=pytest.mark.nightly),
        (("--strategy=scaffold",), True),
        pytest.param(("--strategy=median",), False, marks=pytest.mark.nightly),
        pytest.param(
            ("--strategy=multi-krum", "--strategy-arg=attackers=0"), False, marks=pytest.mark.nightly
        ),
    ],
)
async def test_a_run_whose_aggregator_is_killed_has_the_models_and_states_of_an_undisturbed_one(
    tmp_path: Path, strategy: tuple[str, ...], has_state: bool
) -> None:
    options = (*OPTIONS, *strategy)
    (tmp_path / "calm").mkdir()
    async with fleet(tmp_path / "calm") as nodes:
        calm = await nodes.start_all(*NAMES, options=options)
        assert [await process.exit_code() for process in calm] == [0, 0, 0]
        expected = blobs_of(nodes)
    (tmp_path / "killed").mkdir()
    async with fleet(tmp_path / "killed") as nodes:
        shutil.rmtree(nodes.folder / "certs")
        shutil.copytree(tmp_path / "calm" / "certs", nodes.folder / "certs")  # slots follow the node ids
        rigged = (*RIGGED, f"--rig=commit-due:{ROUND}")
        three = await nodes.start_all(*NAMES, options=(*options, SLOW), program=rigged)
        victim = await until(lambda: next((one for one in three if one.has_ended), None), "a death")
        assert await victim.exit_code() == -signal.SIGKILL
        others = [one for one in three if one is not victim]
        workers = [child for one in others for child in psutil.Process(one.pid).children(recursive=True)]
        for worker in workers:  # else the next round might close before the killed node is back
            worker.suspend()
        shared = ("--min-nodes=3", *options, SLOW)
        again = await nodes.start(victim.name, *shared, peers=others, program=rigged)
        processes: list[Process] = [again, *others]
        await again.until(events.RunJoined, lambda event: event.how == "resumed")
        names = {one.name for one in others}
        await until(lambda: names <= {event.name for event in again.all(events.PeerLinked)}, "links", again)
        for worker in workers:
            worker.resume()
        assert [await process.exit_code() for process in processes] == [0, 0, 0]
        assert sorted(trainings(again)) == [3, 4]
        assert all(len(found) == 1 for found in digests(nodes.rounds()).values())
        assert {len(row.updates) for row in nodes.rounds("ada")["ada"] if row.kind == "train"} == {3}
        found = blobs_of(nodes)
        nodes.check()
    assert found == expected
    assert [bool(blobs.state) for blobs in found] == [has_state] * 5


def blobs_of(nodes: Fleet) -> list[RecordBlobs]:
    """Return the blobs of all committed records in the journal of ada."""
    with DataDirectory(nodes.folder / "ada").read_journal() as journal:
        [run] = journal.runs()
        return [commit.record.blobs for _, _, commit in journal.commits(run.run)]
