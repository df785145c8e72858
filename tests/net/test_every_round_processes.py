"""Five nodes, ten rounds, and no round in peace: one is killed in each of them, or all are at once."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.network import Network, linux_only, network
from tests.support.processes import LIGHT, digests, fleet, last_round, until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240), linux_only]

NAMES = ("ada", "ben", "cleo", "dan", "eve")
ROUNDS = 10
OPTIONS = (f"--rounds={ROUNDS}", "--pace=1", "--round-cap=15")
"""A second is enough time to hit a round in its middle. A round waits for each member that is linked and in the
run, also for one that was just started again, up to its cap: the default, 900 seconds, is longer than the
patience of these tests. With this cap, the last round, its evaluation and the end fit it."""

SEED = 7
"""Of the choice of victims; what they do when they are hit is chance."""


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with fleet(tmp_path) as nodes, network(nodes, *NAMES) as opened:
        yield opened


def reached_round(net: Network) -> int:
    return max(map(last_round, net.nodes.values()))


def is_reached(net: Network, round_: int) -> bool:
    return reached_round(net) >= round_


async def complete(net: Network) -> None:
    """See the run through and check all that is left of it."""
    codes = [await net.nodes[name].exit_code() for name in NAMES]
    assert codes == [0] * 5, "\n".join(process.output for process in net.nodes.values())
    rows = net.fleet.rounds()
    assert {len(journal) for journal in rows.values()} == {ROUNDS + 1}, "ten rounds and the evaluation"
    assert all(len(found) == 1 for found in digests(rows).values())
    net.fleet.check()


async def test_in_every_round_one_is_killed_and_started_again_and_the_run_completes(net: Network) -> None:
    await net.start_all(*OPTIONS, program=LIGHT)
    for process in net.nodes.values():
        await process.until(events.RunJoined)
    chance = random.Random(SEED)
    hit: list[int] = []
    for before in range(ROUNDS):
        await until(partial(is_reached, net, before), f"round {before}")
        hit.append(reached_round(net) + 1)
        victim = chance.choice(NAMES)
        net.nodes[victim].end()
        net.again(victim)
    await complete(net)
    assert hit == list(range(1, ROUNDS + 1)), "one in each round"


async def test_all_are_killed_at_once_in_round_4_and_the_run_goes_on(net: Network) -> None:
    five = await net.start_all(*OPTIONS, program=LIGHT)
    for process in five:
        await process.until(events.Committed, lambda event: event.round == 3)
    for process in five:
        process.signal(signal.SIGKILL)
    assert [await process.exit_code() for process in five] == [-signal.SIGKILL] * 5
    told = {event.round: event.record for process in five for event in process.all(events.Committed)}
    assert set(told) == {1, 2, 3}
    for name in NAMES:
        net.again(name)
    for process in net.nodes.values():
        joined = await process.until(events.RunJoined)
        assert joined.how == "resumed"
        assert joined.round >= 2, "a commit may follow its acceptance to the disk a little later"
    await complete(net)
    kept = {row.round: row.record for row in net.fleet.rounds("ada")["ada"]}
    assert told.items() <= kept.items(), "what was told to be committed stayed so"
