"""Three nodes of one run on a network that is slow, corrupts bytes, resets connections, and goes silent."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.config import NetSettings
from p2pfl.net.links.link import SILENCE_GRACE
from tests.support.network import Network, linux_only, network
from tests.support.processes import LIGHT, digests, fleet, last_round, until

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240), linux_only]

NAMES = ("ada", "ben", "cleo")
BEN = "ben"
"""The node whose channels have the faults."""

SLOW_BYTES_PER_SECOND = 150_000.0
"""So slow that a model takes more than a second."""

MIDDLE_BYTES = 60_000
"""More than all messages of a round, less than half a model."""

SILENT = "nothing was heard from it"

NOTICED_SECONDS = NetSettings().silence_seconds * (1 + SILENCE_GRACE) + 1.5
"""The silence deadline with its grace time, and a margin for a busy machine."""


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with fleet(tmp_path) as nodes, network(nodes, *NAMES) as opened:
        yield opened


async def round_of(net: Network, *names: str) -> None:
    """Wait for a round, from its begin to its end, to which exactly *names* contributed."""
    ada = net.nodes["ada"]
    after = last_round(ada) + 1
    await ada.until(
        events.Committed, lambda event: event.round > after and set(event.contributors) == set(names)
    )


async def middle_of_a_transfer(net: Network) -> None:
    """Wait until a model is in transit to or from ben."""
    channels = net.between([BEN])
    before = [channel.passed for channel in channels]
    await until(
        lambda: any(
            channel.passed > so_far + MIDDLE_BYTES for channel, so_far in zip(channels, before, strict=True)
        ),
        "a transfer",
    )


def lost(net: Network) -> int:
    """Return how many links have ended, counted at both ends."""
    return sum(len(process.all(events.PeerLost)) for process in net.nodes.values())


def dialled(net: Network) -> int:
    """Return how many connections were made so far."""
    return sum(proxy.connections for proxy in net.proxies.values())


async def test_a_run_survives_slowness_damage_resets_and_silence(net: Network) -> None:
    await net.start_all("--rounds=1000", program=LIGHT)
    ada = net.nodes["ada"]
    channels = net.between([BEN])
    await round_of(net, *NAMES)

    links = lost(net)
    for channel in channels:
        channel.latency_seconds, channel.bytes_per_second = 0.05, SLOW_BYTES_PER_SECOND
    await round_of(net, *NAMES)
    assert lost(net) == links, "models on their way do not hold up heartbeats"

    await middle_of_a_transfer(net)
    for proxy in net.proxies.values():
        proxy.cut_all()
    await round_of(net, *NAMES)
    assert lost(net) > links
    for channel in channels:
        channel.latency_seconds, channel.bytes_per_second = 0.0, None
    await round_of(net, *NAMES)

    connections = dialled(net)
    for channel in channels:
        channel.corruptions = 1
    await until(lambda: not any(channel.corruptions for channel in channels), "damage in every direction")
    await round_of(net, *NAMES)
    assert dialled(net) > connections, "damaged connections were made anew"

    net.channel(BEN, "ada").stall()
    await round_of(net, *NAMES)
    net.heal()

    began = time.time()
    net.cut_off(BEN)
    silent = await ada.until(events.PeerLost, lambda event: event.name == BEN and SILENT in event.reason)
    noticed = next(one.time for one in ada.published if one.event is silent)
    assert noticed - began < NOTICED_SECONDS
    await round_of(net, "ada", "cleo")
    net.heal()
    await round_of(net, *NAMES)

    for process in net.nodes.values():
        process.signal(signal.SIGINT)
    assert {await process.exit_code() for process in net.nodes.values()} == {3}
    assert all("Traceback" not in process.output for process in net.nodes.values())
    assert all(len(found) == 1 for found in digests(net.fleet.rounds()).values())
    net.fleet.check()
