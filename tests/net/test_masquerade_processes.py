"""A member behind a router that masquerades its address: it can only dial out, and takes full part in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl import events
from tests.support.namespaces import ROUTER, SUBNET, wires
from tests.support.processes import LIGHT, digests, fleet, until

pytestmark = [pytest.mark.processes, pytest.mark.long]

OUTSIDE, MASKED = ("ada", "ben", "cleo"), "dan"
NAMES = (*OUTSIDE, MASKED)
ROUNDS = 20


async def test_a_masqueraded_member_is_aggregated_serves_its_update_and_aggregates(tmp_path: Path) -> None:
    with wires(*NAMES, masked=(MASKED,)) as network:
        async with fleet(tmp_path) as nodes:
            started = {
                name: nodes.start_unheard(
                    name,
                    f"--listen={network.address(name)}:9000",
                    "--no-mdns",
                    f"--peers={network.address('ada')}:9000",
                    f"--rounds={ROUNDS}",
                    "--min-nodes=4",
                    "--round-cap=20",
                    inside=network.inside(name),
                    program=LIGHT,
                )
                for name in NAMES
            }
            ada, dan = started["ada"], started[MASKED]
            await until(lambda: {link.name for link in dan.all(events.PeerLinked)} == set(OUTSIDE), "links")
            seen = {link.address for link in ada.all(events.PeerLinked) if link.name == MASKED}
            assert seen == {f"{SUBNET}.{ROUTER}:9000"}, "its own address is in no packet outside"
            assert [await process.exit_code() for process in started.values()] == [0] * 4

            rows = nodes.rounds()
            assert all(len(found) == 1 for found in digests(rows).values())
            trained = [row for row in rows["ada"] if row.kind == "train"]
            assert len(trained) == ROUNDS
            counted = [row for row in trained if MASKED in {update.name for update in row.updates}]
            assert len(counted) >= ROUNDS - 1
            assert any(row.aggregator in OUTSIDE for row in counted), "others have pulled its update"
            assert network.address(MASKED) not in ada.output
            nodes.check()
