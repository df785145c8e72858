"""Two of five nodes are cut off during a round: they pause with a reason, the others continue, and it heals."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl import events
from tests.support.network import linux_only, network
from tests.support.processes import LIGHT, digests, fleet, last_round

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240), linux_only]

MAJORITY, MINORITY = ("ada", "ben", "cleo"), ("dan", "eve")
NAMES = (*MAJORITY, *MINORITY)
CUT = 3
"""The round in whose middle the network is cut."""


async def test_two_of_five_pause_until_they_are_reconnected_while_three_continue(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes, network(nodes, *NAMES) as net:
        await net.start_all("--rounds=8", "--pace=1", program=LIGHT)
        for process in net.nodes.values():
            await process.until(events.TrainingStarted, lambda event: event.round == CUT)
        net.cut_off(*MINORITY)

        for name in MINORITY:
            lost = await net.nodes[name].until(events.QuorumLost)
            assert (lost.round, lost.reachable, lost.members, lost.needed) == (CUT, 2, 5, 3)
            assert "2 of 5 members reachable, 3 needed" in net.nodes[name].output
        for name in MAJORITY:
            await net.nodes[name].until(events.Committed, lambda event: event.round == CUT + 1)
            assert net.nodes[name].all(events.QuorumLost) == []
        assert {last_round(net.nodes[name]) for name in MINORITY} == {CUT - 1}, "they committed nothing"

        net.heal()
        assert [await net.nodes[name].exit_code() for name in NAMES] == [0] * 5
        rows = nodes.rounds()
        assert len({journal[-1].record for journal in rows.values()}) == 1
        assert all(len(found) == 1 for found in digests(rows).values())
        assert {len(journal) for journal in rows.values()} == {9}
        assert set(rows["ada"][-1].members) == set(NAMES), "nobody was dropped"
        nodes.check()
