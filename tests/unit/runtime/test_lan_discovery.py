from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import pytest

from p2pfl.discovery.announcements import NodeAnnouncement, node_service
from p2pfl.discovery.lan import Lan, OnTrouble, lan
from p2pfl.discovery.services import Found
from p2pfl.errors import NetworkError
from p2pfl.events import Notice
from p2pfl.net.dialling.dialler import FoundService
from p2pfl.net.transport.addresses import Address
from p2pfl.runtime.lan_discovery import FOUND_PATIENCE, MAX_TOLD, LanDiscovery
from tests.support.lans import ETH0, FakeLan, FakeResponder, node_found
from tests.support.meshes import until

OURS, FOREIGN = "0" * 64, "f" * 64
ME, ADA, BEN = ("m" * 52, "a" * 52, "b" * 52)


def announced(
    node: str,
    address: str,
    *,
    federation: str = OURS,
    protocol: tuple[int, int] = (2, 2),
    version: str = "0.1",
) -> Found:
    service = node_service(NodeAnnouncement(federation, node, version, protocol), 9000)
    return node_found(service.instance, address, service.properties)


class World:
    """The mesh, the clock and the notices of a node that looks for others."""

    def __init__(self) -> None:
        self.now = 0.0
        self.notices: list[Notice] = []
        self.dialled: dict[str, tuple[list[str], str, str]] = {}
        self.has_room = True
        self.moves = 0
        self.discovery = LanDiscovery(
            NodeAnnouncement(OURS, ME, "0.1", (2, 2)),
            9000,
            self,
            lambda: [(BEN, "ben")],
            self.notices.append,
            lambda: self.now,
        )

    def found(self, service: FoundService, addresses: Sequence[Address], node: str, name: str) -> bool:
        if self.has_room:
            self.dialled[service.name] = [str(address) for address in addresses], node, name
        return self.has_room

    def gone(self, service: FoundService) -> None:
        del self.dialled[service.name]

    def own_addresses_changed(self) -> None:
        self.moves += 1

    def see(self, *found: Found) -> None:
        for one in found:
            self.discovery.on_change(one.instance, one)

    @property
    def told(self) -> list[str]:
        return [notice.text for notice in self.notices]


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_of_this_federation_is_dialled_and_told_once(world: World) -> None:
    world.see(announced(ADA, "192.0.2.7"), announced(ADA, "192.0.2.7"))
    assert world.dialled == {"a" * 16: (["192.0.2.7:9000"], "", "")}
    assert world.told == ["found a node of this federation at 192.0.2.7:9000"]


def test_a_known_node_is_told_by_name_and_followed_to_its_new_address(world: World) -> None:
    world.see(announced(BEN, "192.0.2.7"), announced(BEN, "192.0.2.8"), announced(BEN, "192.0.2.8"))
    assert world.dialled == {"b" * 16: (["192.0.2.8:9000"], BEN, "ben")}
    assert world.told == ["found ben at 192.0.2.7:9000", "ben is at 192.0.2.8:9000 now"]


def test_a_node_that_is_gone_is_dialled_no_more_and_found_again_without_a_word(world: World) -> None:
    world.see(announced(BEN, "192.0.2.7"))
    world.discovery.on_change("b" * 16, None)
    world.discovery.on_change("b" * 16, None)
    assert world.dialled == {}
    world.see(announced(BEN, "192.0.2.7"))
    assert len(world.dialled) == len(world.told) == 1


def test_another_federation_is_ignored_and_told_once(world: World) -> None:
    for address in ("192.0.2.7", "192.0.2.8"):
        world.see(announced(ADA, address, federation=FOREIGN))
    assert world.dialled == {}
    assert world.told == ["the node at 192.0.2.7:9000 is ignored: it is of another federation"]


def test_a_node_without_a_common_protocol_is_ignored_with_a_warning(world: World) -> None:
    world.see(announced(ADA, "192.0.2.7", protocol=(7, 9), version="9.0"))
    assert world.dialled == {}
    [notice] = world.notices
    assert notice.level == "warning"
    assert "its p2pfl 9.0 and this device's" in notice.text
    assert "upgrade the older one" in notice.text


def test_itself_what_is_no_node_and_what_has_no_address_are_ignored(world: World) -> None:
    nowhere = announced(ADA, "192.0.2.7")
    world.see(
        announced(ME, "192.0.2.7"),
        node_found("x", "192.0.2.7", {"federation": "lab"}),
        Found("node", nowhere.instance, (), 9000, nowhere.properties),
    )
    assert (world.dialled, world.told) == ({}, [])


def test_what_is_told_is_bounded(world: World) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    for number in range(3 * MAX_TOLD):
        node = f"{alphabet[number // 32]}{alphabet[number % 32]}".ljust(52, "z")
        world.see(announced(node, "192.0.2.7", federation=FOREIGN))
    assert len(world.told) == MAX_TOLD


def test_beyond_the_bound_of_the_mesh_nothing_is_awaited(world: World) -> None:
    world.has_room = False
    world.see(announced(ADA, "192.0.2.7"))
    assert (world.told, world.discovery.awaited([])) == ([], set())


def test_a_found_node_is_awaited_for_a_while_and_as_long_as_it_is_linked(world: World) -> None:
    world.see(announced(ADA, "192.0.2.7"), announced(BEN, "192.0.2.8"))
    assert world.discovery.awaited([]) == {"a" * 16, "b" * 16}
    world.now += FOUND_PATIENCE + 1
    world.see(announced(ADA, "192.0.2.9"))
    assert world.discovery.awaited([BEN]) == {"b" * 16}


async def test_it_announces_and_looks_until_it_is_cancelled(world: World) -> None:
    network = FakeLan()

    @contextlib.asynccontextmanager
    async def opened(on_trouble: OnTrouble, on_move: Callable[[], None]) -> AsyncIterator[Lan]:
        responder = partial(FakeResponder, network)
        async with lan((), on_trouble, on_move, look=lambda _: (ETH0,), open_responder=responder) as one:
            yield one

    running = asyncio.create_task(world.discovery.run(opened))
    await until(lambda: "m" * 16 in network.found)
    network.put(announced(ADA, "192.0.2.7"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert network.found.keys() == {"a" * 16}
    assert world.told == ["found a node of this federation at 192.0.2.7:9000"]


class BrokenLan(contextlib.AbstractAsyncContextManager[Lan]):
    """A network that tells of *troubles*, and cannot be opened."""

    def __init__(self, troubles: Sequence[str], on_trouble: OnTrouble, on_move: Callable[[], None]) -> None:
        self.troubles, self.on_trouble = troubles, on_trouble

    async def __aenter__(self) -> Lan:
        for trouble in self.troubles:
            self.on_trouble(trouble)
        raise NetworkError("the port of mDNS (UDP 5353) cannot be used (Permission denied)")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("it was not entered")


async def test_a_device_without_mdns_goes_on_and_says_so(world: World) -> None:
    await world.discovery.run(partial(BrokenLan, ()))
    assert world.told == [
        "mDNS does not work on this device: the port of mDNS (UDP 5353) cannot be used (Permission denied); "
        "this node goes on with the addresses that it knows"
    ]


async def test_trouble_is_told_and_so_is_its_end(world: World) -> None:
    await world.discovery.run(partial(BrokenLan, ("multicast is blocked", "")))
    assert world.told[:2] == [
        "multicast is blocked; this node goes on with the addresses that it knows",
        "mDNS works again on this device",
    ]
