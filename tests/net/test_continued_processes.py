"""Two of three real nodes are gone for good: the third goes on by its operator's hand; one comes back after all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.store.directory import DataDirectory
from tests.support.processes import fleet, until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("continued")]

CONTINUE = ("-m", "p2pfl", "continue", "--yes")


async def test_the_last_one_continues_alone_and_a_member_that_returns_joins(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        # A round takes two seconds at least: nobody commits another one before all are killed.
        three = await nodes.start_all("ada", "ben", "cleo", options=["--rounds=4", "--pace=2"])
        await three[0].until(events.Committed)
        await until(lambda: all(map(len, nodes.rounds().values())), "round 1 on every disk", three[0])
        for process in three:
            process.signal(signal.SIGKILL)
            await process.exit_code()

        ada = await nodes.start("ada", "--stay", program=CONTINUE)
        joined = await ada.until(events.RunJoined, lambda event: event.how == "continued")
        assert joined.members == ("ada",)
        ended = await ada.until(events.RunEnded)
        assert ended.rounds == 4

        ben = await nodes.start("ben", "--min-nodes=3", peers=[ada])
        learned = await ben.until(events.RunJoined, lambda event: event.how == "learner")
        assert learned.run == joined.run
        assert await ben.exit_code() == 0
        ada.signal(signal.SIGINT)
        assert await ada.exit_code() == 0

        nodes.check()
        with DataDirectory(nodes.folder / "ben").read_journal() as journal:
            old, new = journal.runs()
        assert (old.closed, new.closed) == (True, False)
        assert new.origin is not None
        assert (new.origin.run, new.origin.round, new.trained) == (old.run, 1, 4)
