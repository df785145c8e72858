"""A node dies at every point of a round that is named below, one point a round, and comes back with the same command."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.network import Network, linux_only, network
from tests.support.processes import RIGGED, Process, digests, fleet, trainings, until
from tests.support.rigged_node import victim_file

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240), linux_only]

NAMES = ("ada", "ben", "cleo")

POINTS = (
    (
        "trained",
        "submit-sent",
        "before-save-update",
        "after-save-update",
        "prepare-sent",
        "before-save-promise",
    ),
    ("after-save-promise", "before-save-accepted", "after-save-accepted", "accept-sent", "accepted-heard"),
    ("commit-due", "commit-sent", "before-save-commit", "after-save-commit"),
    ("before-flush-file", "after-flush-file", "before-flush-folder", "after-flush-folder"),
)
"""Each line is a run; the first point strikes in round 1."""


@pytest.mark.parametrize("points", POINTS, ids=lambda points: points[0])
async def test_a_node_killed_at_any_point_of_a_round_resumes_and_the_run_completes(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    rig = ",".join(f"{point}:{round_}" for round_, point in enumerate(points, 1))
    if any("prepare" in point or "promise" in point for point in points):
        rig = f"asks,{rig}"  # the first in rank would not ask for votes
    rounds = len(points) + 1
    async with fleet(tmp_path) as nodes, network(nodes, *NAMES) as net:
        await net.start_all(f"--rounds={rounds}", program=(*RIGGED, f"--rig=light,{rig}"))
        with_update: dict[int, Process] = {}
        for round_, point in enumerate(points, 1):
            victim = await death_at(net, point)
            assert await victim.exit_code() == -signal.SIGKILL
            again = net.again(victim.name)
            if round_ > 1:
                await again.until(events.RunJoined, lambda event: event.how == "resumed")
            if point == "after-save-update":
                with_update[round_] = again

        assert [await net.nodes[name].exit_code() for name in NAMES] == [0] * 3
        for round_, process in with_update.items():
            assert round_ not in trainings(process), "its update was there"
        rows = nodes.rounds()
        assert {len(journal) for journal in rows.values()} == {rounds + 1}
        assert all(len(found) == 1 for found in digests(rows).values())
        nodes.check()


async def death_at(net: Network, point: str) -> Process:
    """Wait until a node has died at *point*; return it."""
    file = net.fleet.folder / victim_file(point)

    def find() -> Process | None:
        who = file.read_text(encoding="utf-8") if file.exists() else ""
        return next((one for one in net.nodes.values() if str(one.pid) == who and one.has_ended), None)

    return await until(find, f"a death at {point}")
