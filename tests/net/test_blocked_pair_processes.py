"""Two members that cannot reach each other at all: the others carry them, and both are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl import events
from tests.support.namespaces import wires
from tests.support.processes import LIGHT, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240)]

NAMES = ("ada", "ben", "cleo", "dan")
BLOCKED = ("cleo", "dan")
ROUNDS = 12


@pytest.mark.parametrize("is_late", [False, True], ids=["from the start", "in a run"])
async def test_two_members_that_cannot_reach_each_other_are_both_counted(
    tmp_path: Path, is_late: bool
) -> None:
    with wires(*NAMES) as network:
        if not is_late:
            network.block(*BLOCKED)
        async with fleet(tmp_path) as nodes:
            started = {
                name: nodes.start_unheard(
                    name,
                    "--listen=9000",
                    "--no-mdns",
                    f"--peers={network.peers(name)}",
                    f"--rounds={ROUNDS}",
                    "--min-nodes=3",
                    "--pace=1",
                    "--round-cap=20",
                    inside=network.inside(name),
                    program=LIGHT,
                )
                for name in NAMES
            }
            ada = started["ada"]
            await ada.until(events.Committed, lambda event: event.round == 2)
            if is_late:
                network.block(*BLOCKED)
            assert [await process.exit_code(150) for process in started.values()] == [0] * 4

            rows = nodes.rounds()
            assert all(len(found) == 1 for found in digests(rows).values())
            trained = [row for row in rows["ada"] if row.kind == "train"]
            assert len(trained) == ROUNDS
            both = [row for row in trained if set(BLOCKED) <= {update.name for update in row.updates}]
            assert len(both) >= ROUNDS - 3, [sorted(u.name for u in row.updates) for row in trained]
            assert set(trained[-1].members) == set(NAMES), "nobody was dropped"
            assert all(process.all(events.QuorumLost) == [] for process in started.values())
            nodes.check()
