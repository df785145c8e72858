from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from p2pfl.discovery.announcements import InvitationAnnouncement, invitation_service
from p2pfl.discovery.services import Found, Service
from p2pfl.enrolment import finding
from p2pfl.enrolment.finding import FoundInviter, announce_invitation, find_inviters
from p2pfl.errors import NetworkError, UserError
from p2pfl.net.transport.addresses import Address

DESK = FoundInviter("lab", "desk", Address("192.0.2.7", 9010))
PI = FoundInviter("club", "pi", Address("192.0.2.8", 9011))


def service_of(inviter: FoundInviter) -> Service:
    announcement = InvitationAnnouncement(inviter.federation, inviter.name, "1")
    return invitation_service(announcement, f"instance of {inviter.name}", inviter.address.port)


def found_of(inviter: FoundInviter) -> Found:
    service = service_of(inviter)
    return Found(
        "invitation", service.instance, (inviter.address.host,), service.port, dict(service.properties)
    )


class Network:
    """The local network without packets: what is found at once, and what was announced."""

    def __init__(self, *events: tuple[str, Found | None], error: str = "", trouble: str = "") -> None:
        self._events = events
        self._error = error
        self._trouble = trouble
        self.announcements: list[Service] = []

    @contextlib.asynccontextmanager
    async def lan(self, _: Sequence[str] = (), on_trouble: Any = None) -> AsyncIterator[Network]:
        if self._error:
            raise NetworkError(self._error)
        if self._trouble:
            on_trouble(self._trouble)
            on_trouble("")
        yield self

    @contextlib.asynccontextmanager
    async def browsing(
        self, kind: str, on_change: Callable[[str, Found | None], None]
    ) -> AsyncIterator[None]:
        assert kind == "invitation"
        for instance, found in self._events:
            on_change(instance, found)
        yield

    @contextlib.asynccontextmanager
    async def announced(self, service: Service) -> AsyncIterator[None]:
        self.announcements.append(service)
        yield


def use(monkeypatch: pytest.MonkeyPatch, network: Network) -> Network:
    monkeypatch.setattr(finding, "lan", network.lan)
    monkeypatch.setattr(finding, "SEARCH_SECONDS", 0.01)
    monkeypatch.setattr(finding, "MORE_SECONDS", 0.0)
    return network


async def test_inviters_are_found_by_their_announcements(monkeypatch: pytest.MonkeyPatch) -> None:
    rubbish = Found("invitation", "x", ("192.0.2.9",), 1, {})
    gone = ("instance of gone", found_of(FoundInviter("lab", "gone", PI.address)))
    use(
        monkeypatch,
        Network(
            ("pi", found_of(PI)), gone, ("desk", found_of(DESK)), ("x", rubbish), (gone[0], None), ("y", None)
        ),
    )
    assert await find_inviters() == [DESK, PI]


async def test_nobody_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Network())
    assert await find_inviters() == []


async def test_a_system_without_multicast_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Network(error="the system does not permit it"))
    with pytest.raises(
        UserError, match=r"cannot be looked for: the system does not permit it\. Instead, type the"
    ):
        await find_inviters()
    told: list[str] = []
    async with announce_invitation(DESK, told.append):
        pass
    assert told == ["Devices that join need this device's address: the system does not permit it."]


async def test_an_invitation_is_announced_with_what_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = use(monkeypatch, Network(trouble="multicast is blocked"))
    told: list[str] = []
    async with announce_invitation(DESK, told.append):
        await asyncio.sleep(0)
    (service,) = network.announcements
    assert service.port == 9010
    assert (service.properties["federation"], service.properties["inviter"]) == ("lab", "desk")
    assert told == ["Devices that join need this device's address: multicast is blocked."]


async def test_an_inviter_on_loopback_is_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    network = use(monkeypatch, Network())
    async with announce_invitation(FoundInviter("lab", "desk", Address("127.0.0.1", 9010)), print):
        pass
    assert network.announcements == []
