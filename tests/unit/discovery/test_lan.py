from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from p2pfl.discovery import lan as lan_module
from p2pfl.discovery.interfaces import Interface
from p2pfl.discovery.lan import BLOCKED, NO_INTERFACE, Lan, lan
from p2pfl.discovery.services import Found, Service
from p2pfl.errors import NetworkError
from tests.support.lans import ETH0, MOVED, FakeLan, FakeResponder, node_found
from tests.support.meshes import until

OWN = Service("node", "own", 9000)


@dataclass
class Opened:
    network: FakeLan = field(default_factory=FakeLan)
    interfaces: Sequence[Interface] = (ETH0,)
    troubles: list[str] = field(default_factory=list)
    moves: int = 0
    responder: FakeResponder | None = None

    @contextlib.asynccontextmanager
    async def lan(self) -> AsyncIterator[Lan]:
        def opened(interfaces: Sequence[Interface]) -> FakeResponder:
            self.responder = FakeResponder(self.network, interfaces)
            return self.responder

        def moved() -> None:
            self.moves += 1

        def look(_: Sequence[str]) -> Sequence[Interface]:
            return self.interfaces

        async with lan((), self.troubles.append, moved, look=look, open_responder=opened) as one:
            yield one

    async def told(self, count: int) -> None:
        await until(lambda: len(self.troubles) >= count)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_module, "HEARD_SECONDS", 0.0)
    monkeypatch.setattr(lan_module, "LOOK_SECONDS", 0.0)


async def test_a_service_is_announced_until_the_end_of_the_block() -> None:
    world = Opened()
    async with world.lan() as network:
        async with network.announced(OWN):
            assert world.network.found["own"].addresses == ("192.0.2.7",)
        assert not world.network.found
    assert world.responder is not None
    assert world.responder.is_closed
    assert not world.network.listeners


async def test_services_of_other_devices_are_passed_on_and_own_ones_are_not() -> None:
    world = Opened()
    changes: list[tuple[str, Found | None]] = []
    other = node_found("other", "192.0.2.9", {})
    async with world.lan() as network, network.announced(OWN):
        async with network.browsing("node", lambda name, found: changes.append((name, found))):
            world.network.put(other)
            world.network.put(Found("invitation", "invited", (), 1, {}))
            world.network.take("other")
        world.network.put(other)

    assert changes == [("other", other), ("other", None)]


async def test_a_new_address_is_announced() -> None:
    world = Opened()
    async with world.lan() as network, network.announced(OWN):
        world.interfaces = (MOVED,)
        await until(lambda: world.network.found["own"].addresses == ("192.0.2.8",))

    assert world.troubles == []
    assert world.moves == 1


async def test_an_announcement_that_is_not_heard_is_told_once_and_when_it_is_heard() -> None:
    world = Opened()
    world.network.carries_multicast = False
    async with world.lan() as network, network.announced(OWN):
        await world.told(1)
        world.network.carries_multicast = True
        world.network.put(world.network.found["own"])
        await world.told(2)

    assert world.troubles == [BLOCKED, ""]


async def test_an_announcement_that_is_heard_is_no_trouble() -> None:
    world = Opened()
    async with world.lan() as network, network.announced(OWN):
        for _ in range(20):
            await asyncio.sleep(0)

    assert world.troubles == []


async def test_a_device_without_a_network_is_told_so_and_announced_when_it_has_one() -> None:
    world = Opened(interfaces=())
    async with world.lan() as network, network.announced(OWN):
        await world.told(1)
        world.interfaces = (ETH0,)
        await world.told(2)
        assert world.network.found["own"].addresses == ("192.0.2.7",)
        world.interfaces = ()
        await world.told(3)

    assert world.troubles == [NO_INTERFACE, "", NO_INTERFACE]


async def test_a_move_that_fails_is_told() -> None:
    world = Opened()
    async with world.lan() as network:
        assert world.responder is not None
        world.responder.fault = "the kernel said no"
        await network.move((MOVED,))
        await network.move((MOVED,))

    assert world.troubles == ["the kernel said no"]


async def test_an_error_in_opening_is_the_callers() -> None:
    def refuse(_: Sequence[Interface]) -> FakeResponder:
        raise NetworkError("the port is taken")

    with pytest.raises(NetworkError, match="taken"):
        async with lan(look=lambda _: (ETH0,), open_responder=refuse):
            pass
