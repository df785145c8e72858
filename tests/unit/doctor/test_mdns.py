from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2pfl.discovery.announcements import read_node
from p2pfl.discovery.interfaces import Interface
from p2pfl.discovery.responder import OnChange
from p2pfl.discovery.services import Found, Service, ServiceKind
from p2pfl.doctor.finding import Finding
from p2pfl.doctor.mdns import check_mdns
from p2pfl.errors import NetworkError
from tests.support.federation import make_federation

WLAN = Interface("wlan0", 2, ("192.0.2.7",), frozenset({"multicast"}))

OTHER = "b" * 52


def node_at(node: str, host: str) -> Found:
    properties = {
        "federation": "ab" * 32,
        "node": node[:16],
        "port": "9000",
        "version": "1",
        "protocol": "2-2",
    }
    return Found("node", node[:16], (host,), 9000, properties)


class Network:
    """A responder on a network that carries multicast, or not."""

    def __init__(self, others: Sequence[Found] = (), *, carries: bool = True, fault: str = "") -> None:
        self.others = others
        self.carries = carries
        self.fault = fault
        self.announced: list[Service] = []
        self.withdrawn: list[str] = []
        self.is_closed = False
        self._on_change: OnChange = lambda _name, _found: None

    async def announce(self, service: Service, interfaces: Sequence[Interface]) -> str:
        if self.fault:
            raise NetworkError(self.fault)
        self.announced.append(service)
        if self.carries:
            own = Found("node", service.instance, ("192.0.2.7",), service.port, service.properties)
            for one in (*self.others, own):
                self._on_change(one.instance, one)
        return service.instance

    async def withdraw(self, instance: str) -> None:
        self.withdrawn.append(instance)

    async def move(self, interfaces: Sequence[Interface]) -> None:
        raise AssertionError("nothing moves")

    def browse(self, kind: ServiceKind, on_change: OnChange) -> Callable[[], None]:
        self._on_change = on_change
        return lambda: None

    async def close(self) -> None:
        self.is_closed = True


async def checked(network: Network, tmp_path: Path, port: int = 9000) -> Finding:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    network.others = [
        node_at(ant.node_id, "192.0.2.7") if one.instance == "own" else one for one in network.others
    ]
    return await check_mdns(
        ant,
        port,
        look=lambda: (WLAN,),
        open_responder=lambda _: network,
        seconds=0.05,
        others_seconds=0.0,
    )


async def test_who_announces_itself_is_named_besides_this_device(tmp_path: Path) -> None:
    own, nonsense = Found("node", "own", ("x",), 1, {}), Found("node", "printer", ("192.0.2.9",), 1, {})
    network = Network([node_at(OTHER, "fe80::1%wlan0"), own, nonsense])
    finding = await checked(network, tmp_path)
    assert (finding.level, finding.text) == (
        "ok",
        f"mDNS works on wlan0; nodes that announce themselves: {OTHER[:7]} at [fe80::1%wlan0]:9000",
    )
    assert network.withdrawn == [network.announced[0].instance]
    assert network.is_closed


async def test_what_is_announced_is_taken_for_a_node_by_nobody(tmp_path: Path) -> None:
    network = Network()
    finding = await checked(network, tmp_path)
    assert finding.text.endswith("no other node announces itself")
    [service] = network.announced
    assert read_node(Found("node", service.instance, ("192.0.2.7",), 9000, service.properties)) is None


async def test_a_node_that_takes_any_port_is_announced_with_one(tmp_path: Path) -> None:
    network = Network()
    await checked(network, tmp_path, port=0)
    assert [service.port for service in network.announced] == [9]


async def test_blocked_multicast_is_named_with_what_works_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfl.doctor.mdns.open_here", lambda port, transport: (f"open {port}/{transport}",))
    network = Network(carries=False)
    finding = await checked(network, tmp_path)
    assert finding.level == "warn"
    assert "does not hear its own announcement on wlan0" in finding.text
    assert "let UDP port 5353 in" in finding.advice
    assert "--peers HOST:PORT" in finding.advice
    assert finding.commands == ("open 5353/udp",)
    assert network.withdrawn
    assert network.is_closed


async def test_a_device_without_a_network_is_told_so() -> None:
    finding = await check_mdns(None, 9000, look=tuple)
    assert (finding.level, "no network interface" in finding.text) == ("warn", True)


async def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    finding = await checked(Network(fault="it cannot be announced (NotRunning)"), tmp_path)
    assert finding.text == "mDNS does not work on wlan0: it cannot be announced (NotRunning)"

    def refuse(_: Sequence[Interface]) -> Network:
        raise NetworkError("the port of mDNS (UDP 5353) cannot be used (Permission denied)")

    finding = await check_mdns(None, 9000, look=lambda: (WLAN,), open_responder=refuse)
    assert "UDP 5353) cannot be used" in finding.text
