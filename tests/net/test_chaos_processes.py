"""Five devices on real cables, one behind a firewall, and random faults: killed, suspended, reset, cut off.

Takes `P2PFL_CHAOS_SECONDS` (300 unless given); `P2PFL_CHAOS_SEED` chooses the faults. What was done is printed.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.chaos import Chaos, trained_twice
from tests.support.namespaces import wires
from tests.support.processes import LIGHT, Process, digests, fleet, trainings
from tests.support.source import ROOT

SECONDS = float(os.environ.get("P2PFL_CHAOS_SECONDS", "300"))
SEED = int(os.environ.get("P2PFL_CHAOS_SEED", "1"))

pytestmark = [
    pytest.mark.processes,
    pytest.mark.nightly,
    pytest.mark.timeout(SECONDS + 300),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="needs iptables for the firewalled member"),
]

NAMES = ("ada", "ben", "cleo", "dan", "eve")

LONGEST_WAIT = 120.0
"""Seconds without a commit: three nodes of five may be hurt at once, one after the other."""


async def test_chaos_leaves_one_record_for_each_round_and_all_nodes_complete_the_run(tmp_path: Path) -> None:
    with wires(*NAMES) as network:
        network.drop_incoming("eve")
        async with fleet(tmp_path) as nodes:
            peers = ",".join(f"{network.address(name)}:9000" for name in NAMES)
            options = ("--rounds=1000000", "--pace=1", "--no-mdns", "--min-nodes=5", f"--peers={peers}")

            def start(name: str) -> Process:
                listen = f"--listen={network.address(name)}:9000"
                inside = network.inside(name)
                return nodes.start_unheard(name, listen, *options, inside=inside, program=LIGHT)

            started = {name: start(name) for name in NAMES}
            for process in started.values():
                await process.until(events.RunJoined)
            chaos = Chaos(network, started, start, random.Random(SEED), list(started.values()))
            await chaos.run(SECONDS)
            await settle(chaos)
            stop(tmp_path / "ada", network.inside("ada"))
            codes = {name: await process.exit_code(120) for name, process in chaos.nodes.items()}
            print(f"seed {SEED}, {SECONDS:.0f} s: {chaos.report}")
            assert codes == dict.fromkeys(NAMES, 0), "\n".join(p.output[-2000:] for p in chaos.starts[-5:])
            rows = nodes.rounds()
            assert {len(journal) for journal in rows.values()} == {max(map(len, rows.values()))}
            assert all(len(found) == 1 for found in digests(rows).values()), "one record a round"
            assert trained_twice(chaos.starts, trainings) == []
            assert chaos.report.longest_wait < LONGEST_WAIT
            nodes.check()


async def settle(chaos: Chaos) -> None:
    """Wait until all nodes are well again: each commits a round that began after the last fault."""
    target = chaos.report.highest + 3
    for name in NAMES:
        process = chaos.nodes[name]
        await process.until(events.Committed, lambda event: event.round >= target, patience=120)


def stop(directory: Path, inside: Sequence[str]) -> None:
    """End the run, as an operator does."""
    command = [*inside, sys.executable, "-P", "-m", "p2pfl", "stop", f"--data-dir={directory}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
