"""Real nodes watched and commanded by their own users and by an operator of their federation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.errors import UserError
from p2pfl.events import Published
from p2pfl.identity.authority import issue
from p2pfl.observe.client import command
from p2pfl.observe.connection import Connected, Item, NodeEnded
from p2pfl.observe.follow import Follower
from p2pfl.observe.target import Target, find_target
from tests.support.processes import LIGHT, Fleet, Process, address_of, fleet, until

pytestmark = pytest.mark.processes

PACED = ("--rounds=200", "--pace=0.05")
"""A run that does not end by itself while a test lasts."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


def local(nodes: Fleet, name: str) -> Target:
    return find_target(data_dir=nodes.folder / name)


def operator(nodes: Fleet, node: Process) -> Target:
    certs = nodes.folder / "certs" / "eve"
    if not certs.exists():
        issue(nodes.folder / "certs", "eve", "operator")
    return find_target(address_of(node), certs=certs)


async def test_a_run_is_paused_resumed_and_stopped_at_any_of_its_nodes(nodes: Fleet) -> None:
    ada, ben = await nodes.start_all("ada", "ben", options=PACED, program=LIGHT)
    await ada.until(events.Committed)
    assert (await command(local(nodes, "ada"), "pause")).refused == ""
    for node in (ada, ben):
        await node.until(events.Committed, lambda event: event.then == "pause")
    assert "is paused" in (await command(operator(nodes, ben), "pause")).refused
    assert (await command(operator(nodes, ben), "resume")).refused == ""
    resumed = await ada.until(events.Resumed)
    assert resumed.by.startswith("eve (operator) at ")
    assert (await command(local(nodes, "ben"), "stop")).refused == ""
    assert [await node.exit_code() for node in (ada, ben)] == [0, 0]
    assert ada.all(events.ControlRequested)[0].by.startswith("the local user at ")
    assert [(event.who, event.what) for event in ben.all(events.Commanded)] == [
        ("eve (operator)", "pause"),
        ("eve (operator)", "resume"),
        ("the local user", "stop"),
    ]
    assert not (nodes.folder / "ada" / "observe.json").exists()
    nodes.check()


async def test_the_leave_command_is_answered_before_the_node_process_ends(nodes: Fleet) -> None:
    ada = await nodes.start("ada", "--min-nodes=3", program=LIGHT)
    assert (await command(local(nodes, "ada"), "leave")).text == "this node leaves"
    assert await ada.exit_code() in (0, 3)


@pytest.mark.long
@pytest.mark.xdist_group("observer")
async def test_a_follower_sees_a_killed_node_come_back_and_in_the_end_why_it_ended(nodes: Fleet) -> None:
    options = ("--min-nodes=1", *PACED)
    ada = await nodes.start("ada", *options, program=LIGHT)
    await ada.until(events.Committed)
    told: list[Item] = []
    connections: list[object] = []
    follower = Follower(local(nodes, "ada"), retry_seconds=(0.05,))
    following = asyncio.create_task(follower.run(told.append, connections.append, told.clear))
    await until(lambda: sum(isinstance(one, Published) for one in told) > 20, "what happens")
    ada.signal(signal.SIGKILL)
    assert await ada.exit_code() == -signal.SIGKILL
    with pytest.raises(UserError, match="was killed; start it again"):
        local(nodes, "ada")
    again = await nodes.start("ada", *options, program=LIGHT)
    await until(lambda: sum(isinstance(one, Connected) for one in connections) == 2, "a second connection")
    await again.until(events.Committed)
    assert (await follower.order("stop")).refused == ""
    assert await again.exit_code() == 0
    await asyncio.wait_for(following, 10)
    ended = again.all(events.Ended)[0]
    assert connections[-1] == NodeEnded(ended.reason)
    seen = {published.seq: published.event for published in told if isinstance(published, Published)}
    assert seen[max(seen)] == ended, "the last thing told"
    rows = nodes.rounds("ada")["ada"]
    committed = {event.round for event in seen.values() if isinstance(event, events.Committed)}
    history = {row.round for row in told if not isinstance(row, Published)}
    assert history | committed == {row.round for row in rows}, "every round, from before the kill too"
