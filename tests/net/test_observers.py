"""Watching and commanding a node over its own port: real TLS, and the program's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from p2pfl import events
from p2pfl.errors import NetworkError
from p2pfl.events import Published, RoundRow
from p2pfl.identity.credentials import Credentials
from p2pfl.net.transport.addresses import parse_address
from p2pfl.observe.client import Observer, command
from p2pfl.observe.target import Target
from p2pfl.runtime.observing.observers import Observers
from p2pfl.wire.observing import CommandName, CommandResult, EventBatch, HistoryBatch, HistoryEnd
from tests.support.federation import make_federation
from tests.support.meshes import FAST, WAIT_SECONDS, Lab, Node, lab, until
from tests.support.proxy import proxy_to
from tests.support.recordings import finished, rows_of
from tests.support.records import SPEC

TOKEN, STREAM = "5e" * 32, "0a" * 16
ROWS = rows_of(finished())
JOINED = events.RunJoined(ROWS[0].run, "resumed", len(ROWS), SPEC, ("ada", "ben"))


class Watched:
    """A node with a link to another one, and its observers."""

    def __init__(self, node: Node, observers: Observers) -> None:
        self.node = node
        self.observers = observers
        self.commands: list[tuple[CommandName, str]] = []
        self.seq = 0

    def tell(self, *texts: str) -> None:
        for text in texts:
            self.publish(events.Notice("info", text))

    def publish(self, event: events.AnyEvent) -> None:
        self.seq += 1
        self.observers.write(Published(self.seq, 0.0, event))

    def target(self, credentials: Credentials, token: str = "", address: str = "") -> Target:
        return Target((parse_address(address or self.node.address),), credentials, token, self.node.id, None)


class Screen:
    """What a follower of a node has received."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.rounds: list[RoundRow] = []
        self.events: list[Published] = []
        self.is_caught_up = False
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> str:
        try:
            async for frame in self.observer.frames():
                match frame:
                    case HistoryBatch():
                        self.rounds += frame.rounds
                    case EventBatch():
                        self.events += frame.events
                    case HistoryEnd():
                        self.is_caught_up = True
        except NetworkError as error:
            return str(error)
        raise AssertionError("a node that says no more")

    @property
    def numbers(self) -> list[int]:
        return [published.seq for published in self.events]

    async def ended(self) -> str:
        """Wait until the connection has ended; return why."""
        async with asyncio.timeout(WAIT_SECONDS):
            reason = await self.reading
        await self.observer.close()
        return reason


@pytest.fixture
def federation(tmp_path: Path) -> dict[str, Credentials]:
    path = tmp_path / "ca"
    made = make_federation(path, "ada", "ben")
    made |= make_federation(path, "owl", role="observer")
    return made | make_federation(path, "eve", role="operator")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ada(world: Lab, federation: dict[str, Credentials]) -> AsyncIterator[Watched]:
    """A node with a link, which still exists after the test."""

    async def history(run: str) -> list[RoundRow]:
        return ROWS

    async def obey(what: CommandName, who: str) -> CommandResult:
        watched.commands.append((what, who))
        return CommandResult(0, "", f"{what} is done")

    settings = msgspec.structs.replace(FAST, max_observer_bytes=2 * 1024 * 1024)
    observers = Observers(federation["ada"], settings, TOKEN, STREAM, history, obey)
    node = await world.start(federation["ada"], observers=observers.hear, settings=settings)
    watched = Watched(node, observers)
    ben = await world.start(federation["ben"], [node.address])
    await node.told.until(lambda told: told.names == {"ben"})
    yield watched
    assert [what for what, _ in node.told.history] == ["linked"]
    assert ben.told.names == {"ada"}


async def follow(target: Target, stream: str = "", after: int = 0) -> Screen:
    screen = Screen(await Observer.connect(target, stream=stream, after=after))
    await until(lambda: screen.is_caught_up)
    return screen


async def test_an_observer_receives_past_and_new_events(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    ada.publish(JOINED)
    screen = await follow(ada.target(federation["owl"]))
    greeting = screen.observer.greeting
    assert (greeting.name, greeting.node, greeting.who) == ("ada", ada.node.id, "owl (observer)")
    assert screen.rounds == ROWS
    ada.tell("one", "two")
    await until(lambda: screen.numbers == [1, 2, 3])
    await ada.observers.close("done")
    assert await screen.ended() == "the node ends: done"


async def test_several_observers_are_independent(ada: Watched, federation: dict[str, Credentials]) -> None:
    screens = [
        await follow(ada.target(federation["owl"])),
        await follow(ada.target(federation["eve"])),
        await follow(ada.target(federation["ada"], TOKEN)),
    ]
    assert [one.observer.greeting.role for one in screens] == ["observer", "operator", "local"]
    ada.tell("one")
    await until(lambda: all(one.numbers == [1] for one in screens))
    await screens[0].observer.close()
    await until(lambda: ada.observers.count == 2)
    ada.tell("two")
    await until(lambda: all(one.numbers == [1, 2] for one in screens[1:]))
    await ada.observers.close("done")
    for one in screens:
        await one.ended()


async def test_a_reconnected_observer_has_no_gap_and_no_repetition(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    async with proxy_to(ada.node.mesh.port) as proxy:
        target = ada.target(federation["owl"], address=proxy.address)
        first = await follow(target)
        ada.tell("one", "two")
        await until(lambda: first.numbers == [1, 2])
        proxy.cut_all()
        await first.ended()
        ada.tell("three", "four")
        second = await follow(target, first.observer.greeting.stream, first.numbers[-1])
        assert second.observer.greeting.resumed
        ada.tell("five")
        await until(lambda: first.numbers + second.numbers == [1, 2, 3, 4, 5])
        await second.observer.close()
        await second.ended()


async def test_an_operator_commands_over_the_network_and_is_named(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    answer = await command(ada.target(federation["eve"]), "pause")
    assert (answer.refused, answer.text) == ("", "pause is done")
    assert ada.commands == [("pause", "eve (operator)")]


async def test_commands_are_answered_while_an_observer_watches(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    screen = await follow(ada.target(federation["eve"]))
    answers = await asyncio.gather(screen.observer.order("pause"), screen.observer.order("leave"))
    assert answers[0].text == "pause is done"
    assert "only the local user" in answers[1].refused
    await screen.observer.close()
    await screen.ended()


async def test_the_leave_command_is_answered_before_the_node_ends(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    ordering = asyncio.create_task(command(ada.target(federation["ada"], TOKEN), "leave"))
    await until(lambda: bool(ada.commands))
    await ada.observers.close("it left")
    assert (await ordering).text == "leave is done"


@pytest.mark.parametrize(
    ("name", "token", "why"),
    [
        ("ada", "", "proves that it can read the node's data directory"),
        ("ada", "00" * 32, "proves that it can read the node's data directory"),
        ("ben", TOKEN, "the certificate of ben is a node's"),
    ],
)
async def test_a_refused_observer_is_reported_on_both_sides(
    ada: Watched, federation: dict[str, Credentials], name: str, token: str, why: str
) -> None:
    with pytest.raises(NetworkError, match=why):
        await Observer.connect(ada.target(federation[name], token))
    assert "refused an observer" in await ada.node.told.until_refused(why)


async def test_a_node_that_allows_no_observers_says_so(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    ben = await world.start(federation["ben"])
    target = Target((parse_address(ben.address),), federation["owl"], "", None, None)
    with pytest.raises(NetworkError, match=r"shares no version of the protocol .*p2pfl-observe/1"):
        await Observer.connect(target)


async def test_a_stranger_learns_nothing(ada: Watched, tmp_path: Path) -> None:
    stranger = make_federation(tmp_path / "elsewhere", "eve", role="operator")["eve"]
    with pytest.raises(NetworkError, match="another CA"):
        await Observer.connect(ada.target(stranger))


def has_shown(screen: Screen, count: int) -> bool:
    return len(screen.events) == count


async def test_an_observer_that_does_not_read_is_dropped_and_delays_no_other(
    ada: Watched, federation: dict[str, Credentials]
) -> None:
    stuck = await Observer.connect(ada.target(federation["owl"]))
    screen = await follow(ada.target(federation["eve"]))
    await until(lambda: ada.observers.count == 2)
    sent = 0
    while ada.observers.count == 2:
        ada.tell("x" * 100_000)
        sent += 1
        await until(partial(has_shown, screen, sent))
    assert sent > 10
    ada.tell("after")
    await until(lambda: screen.numbers == list(range(1, sent + 2)))
    for one in (Screen(stuck), screen):
        await one.observer.close()
        await one.ended()
