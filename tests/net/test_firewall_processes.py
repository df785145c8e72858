"""Devices that cannot be dialled, behind a firewall or address translation, take full part in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl import events
from tests.support.namespaces import Wires, wires
from tests.support.processes import LIGHT, Process, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long]

NAMES = ("ada", "ben", "cleo", "dan", "eve")
ROUNDS = 10
FULL_ROUNDS = 8
"""At least so many have all updates: one may miss its first round while its way to the others is found."""


async def commits_ten_rounds_with_all_updates(network: Wires, folder: Path, names: tuple[str, ...]) -> None:
    async with fleet(folder) as nodes:
        started: list[Process] = [
            nodes.start_unheard(
                name,
                f"--listen={network.listen(name)}",
                "--no-mdns",
                f"--peers={network.peers(name)}",
                f"--rounds={ROUNDS}",
                f"--min-nodes={len(names)}",
                "--round-cap=20",
                inside=network.inside(name),
                program=LIGHT,
            )
            for name in names
        ]
        assert [await process.exit_code() for process in started] == [0] * len(names)
        rows = nodes.rounds()
        assert all(len(found) == 1 for found in digests(rows).values())
        counts = [len(row.updates) for row in rows["ada"] if row.kind == "train"]
        assert len(counts) == ROUNDS
        assert counts.count(len(names)) >= FULL_ROUNDS, counts
        nodes.check()
        assert all(process.all(events.QuorumLost) == [] for process in started)


@pytest.mark.parametrize("undialable", [("cleo",), ("ben", "cleo")], ids=["one", "two"])
@pytest.mark.parametrize(
    "names", [NAMES[:3], pytest.param(NAMES, marks=pytest.mark.nightly)], ids=["of three", "of five"]
)
async def test_a_device_behind_a_firewall_takes_full_part(
    tmp_path: Path, names: tuple[str, ...], undialable: tuple[str, ...]
) -> None:
    with wires(*names) as network:
        for name in undialable:
            network.shut(name)
        await commits_ten_rounds_with_all_updates(network, tmp_path, names)


@pytest.mark.parametrize("hidden", [("cleo",), ("ben", "cleo")], ids=["one", "two"])
@pytest.mark.parametrize(
    "names", [NAMES[:3], pytest.param(NAMES, marks=pytest.mark.nightly)], ids=["of three", "of five"]
)
async def test_a_device_behind_address_translation_takes_full_part(
    tmp_path: Path, names: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    with wires(*names, hidden=hidden) as network:
        await commits_ten_rounds_with_all_updates(network, tmp_path, names)
