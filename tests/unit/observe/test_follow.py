from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest

from p2pfl.errors import NetworkError
from p2pfl.events import Ended, Notice, Published
from p2pfl.identity.credentials import Credentials
from p2pfl.net.transport.addresses import Address
from p2pfl.observe import follow
from p2pfl.observe.client import Observer
from p2pfl.observe.connection import Connected, Connection, Item, NodeEnded, Retrying
from p2pfl.observe.follow import Follower
from p2pfl.observe.target import Target
from p2pfl.wire.observing import (
    CommandName,
    CommandResult,
    EventBatch,
    HistoryBatch,
    HistoryEnd,
    ObserverWelcome,
)
from tests.support.recordings import finished, rows_of

Frames = list[HistoryBatch | EventBatch | HistoryEnd]
TARGET = Target((Address("127.0.0.1", 9),), cast(Credentials, None), "", None, None)
ROWS = rows_of(finished())[:2]


def happened(*numbers: int) -> EventBatch:
    return EventBatch(tuple(Published(number, 0.0, Notice("info", str(number))) for number in numbers))


class FakeObserver:
    """A connection that tells *frames* and then breaks, or stays open with *stays*."""

    def __init__(self, stream: str, frames: Frames, *, resumed: bool = False, stays: bool = False) -> None:
        self.greeting = ObserverWelcome(1, "0", "n", "id", "f", "who", "observer", (), stream, resumed)
        self.is_closed = False
        self._frames = frames
        self._stays = stays

    async def frames(self) -> AsyncIterator[Any]:
        for frame in self._frames:
            yield frame
        if self._stays:
            await asyncio.Event().wait()
        raise NetworkError("the connection broke")

    async def order(self, what: CommandName) -> CommandResult:
        return CommandResult(1, "", f"did {what}")

    async def __aenter__(self) -> FakeObserver:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_closed = True


class Stage:
    """Gives a follower one connection after another, or the error to get none, and notes what comes of it."""

    def __init__(self, *connections: FakeObserver | NetworkError) -> None:
        self.asked: list[tuple[str, int]] = []
        """Where each connection was to go on."""
        self.targets: list[Target] = []
        self.seen: list[int | str] = []
        self.told: list[Connection] = []
        self.over = asyncio.Event()
        self._connections = list(connections)

    async def connect(self, target: Target, *, stream: str, after: int) -> Observer:
        self.asked.append((stream, after))
        self.targets.append(target)
        if not self._connections:
            self.over.set()
            await asyncio.Event().wait()
        made = self._connections.pop(0)
        if isinstance(made, NetworkError):
            raise made
        return cast(Observer, made)

    def follower(self, *, is_patient: bool = True, rests: tuple[float, ...] = (0.0,)) -> Follower:
        return Follower(
            TARGET, is_patient=is_patient, clock=lambda: 100.0, retry_seconds=rests, connect=self.connect
        )

    def deliver(self, item: Item) -> None:
        self.seen.append(item.seq if isinstance(item, Published) else f"round {item.round}")

    def anew(self) -> None:
        self.seen.append("anew")

    async def run(self, follower: Follower | None = None) -> None:
        """Run until there is no connection left to be had."""
        running = asyncio.create_task(
            (follower or self.follower()).run(self.deliver, self.told.append, self.anew)
        )
        await self.over.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_goes_on_after_the_last_number_it_saw() -> None:
    stage = Stage(
        FakeObserver("one", [HistoryBatch(tuple(ROWS)), happened(3, 7), HistoryEnd(8), happened(9, 10)]),
        FakeObserver("one", [happened(11), HistoryEnd(11), happened(12)], resumed=True),
    )
    await stage.run()
    assert stage.asked == [("", 0), ("one", 10), ("one", 12)]
    assert stage.seen == ["round 1", "round 2", 3, 7, 9, 10, 11, 12]


async def test_nothing_is_delivered_twice_even_if_it_is_told_twice() -> None:
    stage = Stage(
        FakeObserver("one", [HistoryEnd(2), happened(3)]),
        FakeObserver("one", [happened(2, 3, 4), HistoryEnd(4), happened(4, 5)], resumed=True),
    )
    await stage.run()
    assert stage.seen == [3, 4, 5]


async def test_who_was_cut_off_while_being_told_all_is_told_all_anew() -> None:
    stage = Stage(
        FakeObserver("one", [HistoryBatch((ROWS[0],)), happened(5)]),
        FakeObserver("one", [HistoryBatch(tuple(ROWS)), happened(5, 6), HistoryEnd(6)]),
    )
    await stage.run()
    assert stage.asked[1] == ("", 0)
    assert stage.seen == ["round 1", 5, "anew", "round 1", "round 2", 5, 6]


async def test_a_restarted_node_tells_everything_anew() -> None:
    stage = Stage(
        FakeObserver("one", [HistoryEnd(900), happened(901)]),
        FakeObserver("two", [happened(1), HistoryEnd(3), happened(4)]),
    )
    await stage.run()
    assert stage.asked == [("", 0), ("one", 901), ("two", 4)]
    assert stage.seen == [901, "anew", 1, 4]


async def test_nothing_is_forgotten_when_nothing_was_told_yet() -> None:
    stage = Stage(FakeObserver("one", []), FakeObserver("one", [HistoryEnd(0)]))
    await stage.run()
    assert stage.seen == []


async def test_attempts_are_counted_until_all_was_told_again() -> None:
    refused = NetworkError("refused")
    stage = Stage(refused, refused, FakeObserver("one", []), FakeObserver("one", [HistoryEnd(0)]), refused)
    await stage.run()
    tries = [(one.number, one.reason) for one in stage.told if isinstance(one, Retrying)]
    assert tries == [
        (1, "refused"), (2, "refused"), (3, "the connection broke"), (1, "the connection broke"), (2, "refused"),
    ]  # fmt: skip


async def test_it_says_when_the_next_attempt_is_and_can_be_hurried() -> None:
    stage = Stage(NetworkError("refused"), NetworkError("refused"))
    follower = stage.follower(rests=(20.0, 40.0))

    def hurry(connection: Connection) -> None:
        stage.told.append(connection)
        asyncio.get_running_loop().call_soon(follower.retry_now)

    running = asyncio.create_task(follower.run(stage.deliver, hurry, stage.anew))
    await stage.over.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [one.at for one in stage.told if isinstance(one, Retrying)] == [120.0, 140.0]


async def test_a_node_that_said_it_ends_is_not_waited_for() -> None:
    ended = EventBatch((Published(2, 0.0, Ended(0, "the run is complete")),))
    stage = Stage(FakeObserver("one", [HistoryEnd(1), ended]))
    await stage.follower().run(stage.deliver, stage.told.append, stage.anew)
    assert stage.told[-1] == NodeEnded("the run is complete")
    assert stage.seen == [2]


async def test_an_impatient_one_gives_up_the_first_time_only() -> None:
    with pytest.raises(NetworkError, match="refused"):
        await Stage(NetworkError("refused")).follower(is_patient=False).run(print, print, print)
    stage = Stage(FakeObserver("one", [HistoryEnd(0)]), NetworkError("refused"), FakeObserver("two", []))
    await stage.run(stage.follower(is_patient=False))
    assert len(stage.asked) == 4


async def test_how_to_reach_a_local_node_is_read_anew_before_each_new_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = TARGET._replace(data_dir=Path("node"), token="old")
    monkeypatch.setattr(follow, "find_target", lambda *, data_dir: local._replace(token=f"new {data_dir}"))
    stage = Stage(NetworkError("refused"))
    await stage.run(Follower(local, retry_seconds=(0.0,), connect=stage.connect))
    assert [target.token for target in stage.targets] == ["old", "new node"]


async def test_commands_go_to_the_node_while_it_is_connected() -> None:
    observer = FakeObserver("one", [HistoryEnd(0)], stays=True)
    stage = Stage(observer)
    follower = stage.follower()
    with pytest.raises(NetworkError, match="no connection"):
        await follower.order("pause")
    connected = asyncio.Event()

    def tell(connection: Connection) -> None:
        assert isinstance(connection, Connected)
        connected.set()

    running = asyncio.create_task(follower.run(stage.deliver, tell, stage.anew))
    await connected.wait()
    assert (await follower.order("pause")).text == "did pause"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert observer.is_closed
    with pytest.raises(NetworkError, match="no connection"):
        await follower.order("pause")
