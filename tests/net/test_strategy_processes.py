"""Runs with a strategy of the user's own in real processes: each device has a copy of its file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

from p2pfl import events
from tests.support.processes import Fleet, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("strategy")]

MEDIAN = """
    import p2pfl

    class Median(p2pfl.Elementwise):
        def __init__(self, scale=1.0):
            self.scale = scale

        def combine(self, parent, updates, weights, state):
            if len(weights) == 2 and self.scale > 1:
                raise ValueError("two updates")
            return updates.matrix().median(dim=0).values, state
"""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


def write_strategy(folder: Path, more: str = "") -> str:
    """Write a device's copy of the strategy; return the option that names it."""
    folder.mkdir()
    (folder / "mine.py").write_text(dedent(MEDIAN) + more, encoding="utf-8")
    return f"--strategy={folder / 'mine.py'}:Median"


async def test_another_source_of_the_strategy_is_a_warning_on_all_devices(
    nodes: Fleet, tmp_path: Path
) -> None:
    shared = ("--min-nodes=2", "--rounds=2", "--strategy-arg=scale=1")
    ada = await nodes.start("ada", *shared, write_strategy(tmp_path / "files-of-ada"))
    other = write_strategy(tmp_path / "files-of-ben", "# changed\n")
    ben = nodes.start_unheard("ben", *shared, other, peers=[ada])
    assert [await process.exit_code() for process in (ada, ben)] == [0, 0]
    nodes.check()
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    assert {row.strategy for row in rows["ada"]} == {"mine.py:Median (scale 1)"}
    assert [len(row.updates) for row in rows["ada"] if row.kind == "train"] == [2, 2]
    for process in (ada, ben):
        assert "the source of the strategy on ben differs from that on ada" in process.output
        assert "strategy mine.py:Median (scale 1)" in process.output


async def test_a_device_without_the_file_is_told_and_a_class_that_fails_costs_the_round(
    nodes: Fleet, tmp_path: Path
) -> None:
    option = write_strategy(tmp_path / "files")
    shared = ("--min-nodes=2", "--rounds=9", "--strategy-arg=scale=2", option)
    ada = await nodes.start("ada", *shared)
    ben = nodes.start_unheard("ben", *shared, peers=[ada])
    for process in (ada, ben):
        committed = await process.until(events.Committed)
        assert (
            "the strategy failed: mine.py, line 10, in combine(): ValueError: two updates" in committed.note
        )
        assert committed.updates == ()
        assert not process.has_ended
    cleo = nodes.start_unheard("cleo", "--min-nodes=3", peers=[ada])
    words = "the class 'mine.py:Median' of a file, and this device was not given one; use --strategy"
    await cleo.until(events.Notice, lambda event: words in event.text)
