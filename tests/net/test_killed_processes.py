"""The aggregator is killed at the worst moments: the round commits, nothing is retrained, one model a round."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import RIGGED, Fleet, digests, fleet, trainings

pytestmark = pytest.mark.processes

NAMES = ("ada", "ben", "cleo", "dan", "eve")
ROUND = 2


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("moment", ["counted", "accept-sent", "accepted-heard"])
async def test_the_round_survives_its_aggregator(nodes: Fleet, moment: str) -> None:
    options = (f"--min-nodes={len(NAMES)}", "--rounds=3")
    rigged = (*RIGGED, f"--rig={moment}:{ROUND}")
    first = await nodes.start(NAMES[0], *options, program=rigged)
    five = [first] + [
        nodes.start_unheard(name, *options, peers=[first], program=rigged) for name in NAMES[1:]
    ]
