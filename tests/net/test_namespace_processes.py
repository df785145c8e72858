"""A real network between the nodes, and a real cable that is pulled in the middle of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl import events
from tests.support.namespaces import wires
from tests.support.processes import LIGHT, Process, digests, fleet, last_round

pytestmark = [pytest.mark.processes, pytest.mark.long]

NAMES = ("ada", "ben", "cleo")


async def test_a_node_whose_cable_is_pulled_pauses_and_recovers(tmp_path: Path) -> None:
    with wires(*NAMES) as network:
        async with fleet(tmp_path) as nodes:
            peers = ",".join(f"{network.address(name)}:9000" for name in NAMES)
            options = ("--rounds=10", "--pace=1", "--no-mdns", f"--peers={peers}")
            started: dict[str, Process] = {}
            for name in NAMES:
                listen = f"--listen={network.address(name)}:9000"
                started[name] = nodes.start_unheard(
                    name, listen, *options, inside=network.inside(name), program=LIGHT
                )
            ada, ben, cleo = started.values()
            await cleo.until(events.TrainingStarted, lambda event: event.round == 2)
            network.pull("cleo")

            lost = await cleo.until(events.QuorumLost)
            assert (lost.reachable, lost.members, lost.needed) == (1, 3, 2)
            assert "1 of 3 members reachable, 2 needed" in cleo.output
            paused = last_round(cleo)
            for process in (ada, ben):
                await process.until(events.Committed, lambda event: event.round >= paused + 2)
                assert process.all(events.QuorumLost) == []
            assert last_round(cleo) == paused, "it committed nothing"

            network.plug("cleo")
            assert [await process.exit_code() for process in (ada, ben, cleo)] == [0] * 3
            rows = nodes.rounds()
            assert {len(journal) for journal in rows.values()} == {11}
            assert all(len(found) == 1 for found in digests(rows).values())
            assert rows["ada"][-2].left_out == (), "in the last training round it was there again"
            nodes.check()
