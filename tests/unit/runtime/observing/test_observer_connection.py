"""What waits for an observer is bounded, sent in order, and nobody waits for it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from p2pfl.events import Notice, Published
from p2pfl.runtime.observing import observer_connection
from p2pfl.runtime.observing.observer_connection import ObserverConnection
from p2pfl.wire.frames import encode_frame
from p2pfl.wire.observing import EventBatch, NodeFrame, ObserverHeartbeat, ObserverRefusal, encode
from tests.support.meshes import until
from tests.support.watchers import MAX_BYTES, Watcher


def frame(one: NodeFrame) -> bytes:
    return encode_frame(encode(one), MAX_BYTES)


def news(number: int) -> EventBatch:
    return EventBatch((Published(number, 0.0, Notice("info", "x" * 100)),))


def has_frames(watcher: Watcher, count: int) -> bool:
    return len(watcher.frames) == count


BEAT, TOO_SLOW, LAST = (
    frame(ObserverHeartbeat()),
    frame(ObserverRefusal("too slow")),
    ObserverRefusal("the end"),
)
SIZE = len(frame(news(1)))


@pytest.fixture
async def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def seen(watcher: Watcher) -> ObserverConnection:
    return ObserverConnection(watcher.stream, 3 * SIZE, heartbeat=BEAT, too_slow=TOO_SLOW)


async def test_what_was_queued_is_sent_in_order_before_the_last_words(
    watcher: Watcher, seen: ObserverConnection
) -> None:
    for number in (1, 2):
        seen.push(frame(news(number)))
    seen.finish(frame(LAST))
    seen.push(frame(news(3)))
    await seen.write()
    assert watcher.frames == [news(1), news(2), LAST]
    assert await seen.ended == "this node ends"


async def test_more_may_pass_in_all_than_may_wait_at_a_time(
    watcher: Watcher, seen: ObserverConnection
) -> None:
    writing = asyncio.create_task(seen.write())
    for number in range(10):
        seen.push(frame(news(number)))
        await until(partial(has_frames, watcher, number + 1))
    assert not seen.ended.done()
    writing.cancel()


async def test_who_lets_too_much_wait_is_told_so_and_sent_nothing_more(
    watcher: Watcher, seen: ObserverConnection
) -> None:
    writing = asyncio.create_task(seen.write())
    watcher.stop_reading()
    for number in range(10):
        seen.push(frame(news(number)))
    assert await seen.ended == f"it reads too slowly: {3 * SIZE} bytes are queued for it"
    assert watcher.frames == [ObserverRefusal("too slow")]
    watcher.read_on()
    seen.push(frame(news(11)))
    await asyncio.sleep(0)
    assert watcher.frames == [ObserverRefusal("too slow")]
    writing.cancel()


async def test_who_reads_nothing_for_long_is_dropped_although_little_waits(
    watcher: Watcher, seen: ObserverConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_connection, "STUCK_SECONDS", 0.0)
    watcher.stop_reading()
    seen.push(frame(news(1)))
    await seen.write()
    assert "has read nothing" in await seen.ended


async def test_there_is_room_while_little_waits_and_again_once_it_is_sent(
    watcher: Watcher, seen: ObserverConnection
) -> None:
    seen.push(frame(news(1)))
    await seen.room()
    seen.push(frame(news(2)))
    waiting = asyncio.create_task(seen.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    writing = asyncio.create_task(seen.write())
    await waiting
    writing.cancel()


async def test_an_end_lets_go_who_waits_for_room(seen: ObserverConnection) -> None:
    seen.push(frame(news(1)))
    seen.push(frame(news(2)))
    waiting = asyncio.create_task(seen.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    seen.end("it broke")
    await waiting


async def test_a_beat_is_sent_when_there_is_nothing_else(
    watcher: Watcher, seen: ObserverConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_connection, "HEARTBEAT_SECONDS", 0.001)
    writing = asyncio.create_task(seen.write())
    await until(lambda: len(watcher.all(ObserverHeartbeat)) == 3)
    assert len(watcher.frames) == 3
    writing.cancel()


async def test_a_broken_connection_ends_it_with_the_reason(
    watcher: Watcher, seen: ObserverConnection
) -> None:
    watcher.abort()
    seen.push(frame(news(1)))
    await seen.write()
    assert "the connection broke" in await seen.ended
