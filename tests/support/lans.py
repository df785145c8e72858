"""A local network in memory: a fake of `p2pfl.discovery.responder`, for tests without multicast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pfl.discovery.interfaces import Interface
from p2pfl.discovery.responder import OnChange
from p2pfl.discovery.services import Found, Service, ServiceKind
from p2pfl.errors import NetworkError

ETH0 = Interface("eth0", 2, ("192.0.2.7",))
MOVED = Interface("eth0", 2, ("192.0.2.8",))


class FakeLan:
    """The network that `FakeResponder`s share."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.carries_multicast = True
        self._listeners: list[tuple[ServiceKind, OnChange]] = []

    def put(self, found: Found) -> None:
        """Announce *found*, or its change."""
        self.found[found.instance] = found
        for kind, on_change in list(self._listeners):
            if kind == found.kind and self.carries_multicast:
                on_change(found.instance, found)

    def take(self, instance: str) -> None:
        """Withdraw *instance*."""
        gone = self.found.pop(instance)
        for kind, on_change in list(self._listeners):
            if kind == gone.kind:
                on_change(instance, None)

    def listen(self, kind: ServiceKind, on_change: OnChange) -> Callable[[], None]:
        entry = (kind, on_change)
        self._listeners.append(entry)
        for found in list(self.found.values()):
            if found.kind == kind and self.carries_multicast:
                on_change(found.instance, found)
        return lambda: self._listeners.remove(entry)

    @property
    def listeners(self) -> int:
        return len(self._listeners)


class FakeResponder:
    """One device's responder in a `FakeLan`."""

    def __init__(self, network: FakeLan, interfaces: Sequence[Interface]) -> None:
        self._network = network
        self._own: dict[str, Service] = {}
        self.interfaces = tuple(interfaces)
        self.is_closed = False
        self.fault = ""
        """Why the next move fails."""

    async def announce(self, service: Service, interfaces: Sequence[Interface]) -> str:
        instance = service.instance
        while instance in self._network.found:
            instance += "-2"
        self._own[instance] = service
        self._put(instance, interfaces)
        return instance

    async def withdraw(self, instance: str) -> None:
        del self._own[instance]
        self._network.take(instance)

    async def move(self, interfaces: Sequence[Interface]) -> None:
        if self.fault:
            raise NetworkError(self.fault)
        self.interfaces = tuple(interfaces)
        for instance in self._own:
            self._put(instance, interfaces)

    def browse(self, kind: ServiceKind, on_change: OnChange) -> Callable[[], None]:
        return self._network.listen(kind, on_change)

    async def close(self) -> None:
        self.is_closed = True

    def _put(self, instance: str, interfaces: Sequence[Interface]) -> None:
        service = self._own[instance]
        addresses = tuple(address for one in interfaces for address in one.addresses)
        self._network.put(Found(service.kind, instance, addresses, service.port, dict(service.properties)))


def node_found(instance: str, address: str, properties: Mapping[str, str], port: int = 9000) -> Found:
    """Return a node that another device announces."""
    return Found("node", instance, (address,), port, dict(properties))
