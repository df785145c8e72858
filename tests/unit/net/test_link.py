"""How long a peer takes to answer is measured on quiet and on busy links alike, with few pings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from p2pfl.config import NetSettings
from p2pfl.messages import Ask, Member
from p2pfl.net import link as module
from p2pfl.net.link import Link
from p2pfl.net.peers import Peer
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from p2pfl.wire.links import Ping, Pong
from tests.support.meshes import until
from tests.support.transports import NearEnd

MAX_BYTES = NetSettings().max_frame_bytes
ASK = Ask("0" * 64, 1)
PEER = Peer(Member("b" * 52, "1" * 32), "ben", "node", "h:1", 1, "2" * 32)


class Stage:
    """A link, and the peer at its other end."""

    def __init__(self, settings: NetSettings) -> None:
        self.near = NearEnd(MAX_BYTES)
        self.link = Link(self.near.stream, PEER, 1, settings, lambda *_: None)
        self.running = asyncio.create_task(self.link.run())

    @property
    def frames(self) -> list[ControlFrame]:
        """What the peer was sent."""
        return [decode(body) for body in FrameDecoder(MAX_BYTES).feed(self.near.written)]

    async def pings(self, number: int) -> None:
        """Wait for that many pings in all."""
        await until(lambda: self.frames.count(Ping()) == number)

    async def answer(self) -> None:
        """Let a PONG arrive, and be read."""
        heard_at = self.near.stream.heard_at
        self.near.receive(encode_frame(encode(Pong()), MAX_BYTES))
        await until(lambda: self.near.stream.heard_at > heard_at)


@pytest.fixture
async def start() -> AsyncIterator[Callable[[NetSettings], Stage]]:
    stages: list[Stage] = []

    def make(settings: NetSettings) -> Stage:
        stages.append(Stage(settings))
        return stages[-1]

    yield make
    for stage in stages:
        stage.link.cut("the test is over")
        await stage.running


async def test_on_a_quiet_link_the_ping_that_keeps_it_alive_is_timed(
    start: Callable[[NetSettings], Stage],
) -> None:
    stage = start(NetSettings(ping_seconds=0.001))
    assert stage.link.rtt is None
    await stage.pings(1)
    await stage.answer()
    assert stage.link.rtt is not None
    assert 0 < stage.link.rtt < 5


async def test_a_link_that_is_never_quiet_is_pinged_along_with_what_it_carries(
    start: Callable[[NetSettings], Stage],
) -> None:
    stage = start(NetSettings(ping_seconds=60))
    stage.link.send(ASK)
    await stage.pings(1)
    assert stage.frames == [ASK, Ping()]
    await stage.answer()
    assert stage.link.rtt is not None


async def test_a_busy_link_carries_few_pings(start: Callable[[NetSettings], Stage]) -> None:
    stage = start(NetSettings(ping_seconds=60))
    for number in range(1, 50):
        stage.link.send(ASK)
        await until(lambda number=number: stage.frames.count(ASK) == number)
    assert stage.frames.count(Ping()) == 1
    assert module.RTT_SECONDS >= 1


async def test_a_ping_that_follows_an_unanswered_one_does_not_make_the_answer_look_quick(
    start: Callable[[NetSettings], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = start(NetSettings(ping_seconds=0.001))
    loop = asyncio.get_running_loop()
    time, ahead = loop.time, 0.0
    await stage.pings(1)
    monkeypatch.setattr(loop, "time", lambda: time() + ahead)
    ahead = 3.0
    await until(lambda: stage.frames.count(Ping()) >= 2)
    await stage.answer()
    assert stage.link.rtt is not None
    assert stage.link.rtt >= 3.0


async def test_an_answer_nobody_asked_for_says_nothing(start: Callable[[NetSettings], Stage]) -> None:
    stage = start(NetSettings(ping_seconds=60))
    await stage.answer()
    assert stage.link.rtt is None
