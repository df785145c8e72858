"""A node that is suspended for longer than the others wait, and then resumes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import LIGHT, digests, fleet, last_round

pytestmark = [pytest.mark.processes, pytest.mark.long]


@pytest.mark.parametrize(
    ("pace", "missed"),
    [
        pytest.param(0.5, 2, id="until it is missed"),
        pytest.param(5.0, 13, id="a minute", marks=[pytest.mark.nightly, pytest.mark.timeout(300)]),
    ],
)
async def test_a_suspended_node_that_wakes_up_catches_up(tmp_path: Path, pace: float, missed: int) -> None:
    async with fleet(tmp_path) as nodes:
        options = (f"--rounds={missed + 4}", f"--pace={pace}")
        ada, ben, cleo = await nodes.start_all("ada", "ben", "cleo", options=options, program=LIGHT)
        await cleo.until(events.TrainingStarted, lambda event: event.round == 2)
        slept_from = last_round(cleo)
        cleo.signal(signal.SIGSTOP)

        await ada.until(events.PeerLost, lambda event: event.name == "cleo")
        lost_in = last_round(ada) + 1
        patience = 20 + 2 * pace * missed
        await ada.until(events.Committed, lambda event: event.round >= lost_in + missed - 1, patience)
        assert last_round(cleo) == slept_from
        cleo.signal(signal.SIGCONT)

        assert [await process.exit_code() for process in (ada, ben, cleo)] == [0] * 3
        rows = nodes.rounds()
        assert {len(journal) for journal in rows.values()} == {missed + 5}
        assert all(len(found) == 1 for found in digests(rows).values())
        assert "cleo" in rows["ada"][-1].members
        nodes.check()
