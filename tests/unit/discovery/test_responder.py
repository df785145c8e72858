from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange

from p2pfl.discovery import responder
from p2pfl.discovery.interfaces import Interface
from p2pfl.discovery.responder import ZeroconfResponder
from p2pfl.discovery.services import Found, Service
from p2pfl.errors import NetworkError

TYPE = "_p2pfl._tcp.local."
BOTH = Interface("eth0", 7, ("192.0.2.7", "fe80::7"))


class FakeZeroconf:
    """The sockets, without sockets: what was sent, and what the network would answer."""

    def __init__(self) -> None:
        self.places: list[str | int] = []
        self.version: IPVersion | None = None
        self.registered: dict[str, FakeInfo] = {}
        self.changed: Callable[..., None] = lambda *_: None
        self.addresses: list[str] = ["192.0.2.9"]
        self.answers = asyncio.Event()
        self.answers.set()
        self.lookups = 0
        self.is_closed = False
        self.error: Exception | None = None

    def change(self, instance: str, change: ServiceStateChange = ServiceStateChange.Added) -> None:
        self.changed(self, TYPE, f"{instance}.{TYPE}", change)


class FakeInfo:
    def __init__(self, type_: str, name: str, **settings: Any) -> None:
        self.type, self.name = type_, name
        self.port = settings.get("port", 9000)
        self.text = settings.get("properties", {})
        self.properties = {b"version": b"1"}
        self.server = "own.local."
        self.addresses: list[str] = settings.get("parsed_addresses", [])

    async def async_request(self, zeroconf: FakeZeroconf, _milliseconds: float) -> bool:
        zeroconf.lookups += 1
        if zeroconf.error:
            raise zeroconf.error
        self.addresses = zeroconf.addresses
        await zeroconf.answers.wait()
        return True

    def parsed_scoped_addresses(self) -> list[str]:
        return self.addresses


async def done() -> None:
    """What zeroconf returns while packets are being sent."""


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeZeroconf:
    """Replace the classes of zeroconf that the responder uses."""
    fake = FakeZeroconf()

    class FakeAsyncZeroconf:
        zeroconf = fake

        def __init__(self, interfaces: list[str | int], ip_version: IPVersion) -> None:
            fake.places, fake.version = interfaces, ip_version
            if fake.error:
                raise fake.error

        async def async_register_service(self, info: FakeInfo, *, allow_name_change: bool) -> object:
            if fake.error:
                raise fake.error
            assert allow_name_change
            fake.registered[info.name] = info
            return done()

        async def async_update_service(self, info: FakeInfo) -> object:
            fake.registered[info.name] = info
            return done()

        async def async_unregister_service(self, info: FakeInfo) -> object:
            del fake.registered[info.name]
            return done()

        async def async_update_interfaces(self, interfaces: list[str | int], version: IPVersion) -> None:
            if fake.error:
                raise fake.error
            fake.places, fake.version = interfaces, version

        async def async_close(self) -> None:
            fake.is_closed = True

    class FakeBrowser:
        def __init__(self, zeroconf: FakeZeroconf, kind: str, handlers: list[Callable[..., None]]) -> None:
            assert kind == TYPE
            (zeroconf.changed,) = handlers

        async def async_cancel(self) -> None:
            fake.changed = lambda *_: None

    monkeypatch.setattr(responder, "AsyncZeroconf", FakeAsyncZeroconf)
    monkeypatch.setattr(responder, "AsyncServiceBrowser", FakeBrowser)
    monkeypatch.setattr(responder, "AsyncServiceInfo", FakeInfo)
    monkeypatch.setattr("socket.if_indextoname", {7: "eth0"}.get)
    return fake


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Changes(list[tuple[str, Found | None]]):
    def __call__(self, instance: str, found: Found | None) -> None:
        self.append((instance, found))


async def test_ipv4_is_used_by_address_and_ipv6_by_interface(network: FakeZeroconf) -> None:
    ZeroconfResponder([BOTH])
    assert (network.places, network.version) == (["192.0.2.7", 7], IPVersion.All)

    ZeroconfResponder([Interface("eth0", 7, ("192.0.2.7",))])
    assert (network.places, network.version) == (["192.0.2.7"], IPVersion.V4Only)


async def test_a_service_is_announced_at_the_addresses_and_moves_with_them(network: FakeZeroconf) -> None:
    one = ZeroconfResponder([BOTH])
    assert await one.announce(Service("node", "own", 9000, {"version": "1"}), [BOTH]) == "own"
    assert network.registered[f"own.{TYPE}"].addresses == ["192.0.2.7", "fe80::7"]

    await one.move([Interface("eth0", 7, ("192.0.2.8",))])

    assert network.registered[f"own.{TYPE}"].addresses == ["192.0.2.8"]
    assert network.places == ["192.0.2.8"]

    await one.withdraw("own")
    await one.close()
    assert not network.registered
    assert network.is_closed


async def test_errors_of_the_system_are_half_sentences(network: FakeZeroconf) -> None:
    one = ZeroconfResponder([BOTH])
    network.error = OSError(98, "Address already in use")
    with pytest.raises(NetworkError, match=r"UDP 5353.*already in use"):
        ZeroconfResponder([BOTH])
    with pytest.raises(NetworkError, match="new addresses"):
        await one.move([BOTH])
    network.error = ZeroconfError("bad")
    with pytest.raises(NetworkError, match="cannot be announced"):
        await one.announce(Service("node", "own", 9000), [BOTH])


async def test_what_appears_changes_and_goes_is_passed_on(network: FakeZeroconf) -> None:
    changes = Changes()
    end = ZeroconfResponder([BOTH]).browse("node", changes)
    network.change("pi")
    await settle()
    network.addresses = ["192.0.2.10"]
    network.change("pi", ServiceStateChange.Updated)
    await settle()
    network.change("pi", ServiceStateChange.Removed)
    network.change("pi", ServiceStateChange.Removed)
    end()
    await settle()
    network.change("pi")

    first = Found("node", "pi", ("192.0.2.9",), 9000, {"version": "1"})
    second = Found("node", "pi", ("192.0.2.10",), 9000, {"version": "1"})
    assert changes == [("pi", first), ("pi", second), ("pi", None)]


async def test_only_addresses_that_lead_to_another_device_are_passed_on(network: FakeZeroconf) -> None:
    network.addresses = [
        "fe80::1",
        "fe80::1%7",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "192.0.2.9",
        "2001:db8::9",
    ]
    changes = Changes()
    ZeroconfResponder([BOTH]).browse("node", changes)
    network.change("pi")
    await settle()

    assert [found.addresses for _, found in changes if found] == [
        ("192.0.2.9", "2001:db8::9", "fe80::1%eth0")
    ]


async def test_addresses_of_one_service_are_bounded(network: FakeZeroconf) -> None:
    network.addresses = [f"192.0.2.{number}" for number in range(1, 100)]
    changes = Changes()
    ZeroconfResponder([BOTH]).browse("node", changes)
    network.change("pi")
    await settle()

    assert [len(found.addresses) for _, found in changes if found] == [8]


async def test_instances_and_simultaneous_lookups_are_bounded(network: FakeZeroconf) -> None:
    network.answers.clear()
    changes = Changes()
    one = ZeroconfResponder([BOTH])
    one.browse("node", changes)
    for number in range(responder.MAX_INSTANCES + 50):
        network.change(f"pi-{number}")
    await settle()
    assert network.lookups == responder.MAX_LOOKUPS

    network.answers.set()
    for _ in range(100):
        await settle()
    assert len(changes) == responder.MAX_INSTANCES
    await one.close()


async def test_an_instance_that_goes_while_it_is_looked_up_is_only_gone(network: FakeZeroconf) -> None:
    network.answers.clear()
    changes = Changes()
    ZeroconfResponder([BOTH]).browse("node", changes)
    network.change("pi")
    await settle()
    network.change("pi", ServiceStateChange.Removed)
    network.answers.set()
    await settle()

    assert changes == [("pi", None)]


async def test_a_lookup_that_fails_is_nothing_found(network: FakeZeroconf) -> None:
    changes = Changes()
    ZeroconfResponder([BOTH]).browse("node", changes)
    network.error = OSError("no network")
    network.change("pi")
    await settle()

    assert changes == []
