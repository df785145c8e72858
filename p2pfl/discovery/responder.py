"""Multicast DNS by the `zeroconf` package: the only module that uses it.

`Responder` is the interface that `p2pfl.discovery.lan` needs. It looks up each instance that the network
names, a bounded number at a time, and passes on what it resolved.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from zeroconf import Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pfl.discovery.interfaces import Interface
from p2pfl.discovery.services import (
    MAX_ADDRESSES,
    SERVICE_TYPES,
    Found,
    Service,
    ServiceKind,
    read_properties,
)
from p2pfl.errors import NetworkError

logger = logging.getLogger(__name__)

RESOLVE_SECONDS = 3.0
"""For the answers about one instance; devices on Wi-Fi answer within one."""

MAX_INSTANCES = 512
"""Instances of a kind that are followed: a device in the network may announce any number."""

MAX_LOOKUPS = 16
"""Simultaneous lookups of instances; the answers are usually here already."""

OnChange = Callable[[str, Found | None], None]
"""Takes the name of an instance, and what was found of it; None: it is gone."""


class Responder(Protocol):
    """Announces services of this device, and finds those of others."""

    async def announce(self, service: Service, interfaces: Sequence[Interface]) -> str:
        """Announce *service* at the addresses of *interfaces*; return its name, changed if it was taken."""

    async def withdraw(self, instance: str) -> None:
        """Tell the network that *instance* is gone."""

    async def move(self, interfaces: Sequence[Interface]) -> None:
        """Use *interfaces* from now on, and announce the services at their addresses."""

    def browse(self, kind: ServiceKind, on_change: OnChange) -> Callable[[], None]:
        """Call *on_change* with each service of *kind*, those of this device too; return what ends it."""

    async def close(self) -> None:
        """Withdraw everything, and close the sockets."""


class ZeroconfResponder:
    """A `Responder` on the `zeroconf` package."""

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        """Open the sockets on *interfaces*.

        Raises:
            NetworkError: the system does not permit it; the message is half a sentence.
        """
        try:
            self._zeroconf = AsyncZeroconf(_places(interfaces), ip_version=_version(interfaces))
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or f"{error!s:.200}"
            raise NetworkError(f"the port of mDNS (UDP 5353) cannot be used ({reason})") from error
        self._announced: dict[str, AsyncServiceInfo] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def announce(self, service: Service, interfaces: Sequence[Interface]) -> str:
        """Announce *service* at the addresses of *interfaces*; return its name, changed if it was taken.

        Raises:
            NetworkError: it cannot be announced; the message is half a sentence.
        """
        kind = SERVICE_TYPES[service.kind]
        info = AsyncServiceInfo(
            kind,
            f"{service.instance}.{kind}",
            port=service.port,
            properties=dict(service.properties),
            parsed_addresses=_addresses(interfaces),
        )
        try:
            sent = await self._zeroconf.async_register_service(info, allow_name_change=True)
        except (Error, OSError) as error:
            raise NetworkError(f"it cannot be announced ({type(error).__name__} {error!s:.200})") from error
        _in_background(sent)
        instance = info.name.removesuffix(f".{kind}")
        self._announced[instance] = info
        return instance

    async def withdraw(self, instance: str) -> None:
        """Tell the network that *instance* is gone."""
        with contextlib.suppress(Error, OSError):
            await (await self._zeroconf.async_unregister_service(self._announced.pop(instance)))

    async def move(self, interfaces: Sequence[Interface]) -> None:
        """Use *interfaces* from now on, and announce the services at their addresses.

        Raises:
            NetworkError: the sockets cannot be opened; the message is half a sentence.
        """
        try:
            for instance, old in list(self._announced.items()):
                self._announced[instance] = moved = AsyncServiceInfo(
                    old.type,
                    old.name,
                    port=old.port,
                    properties=old.text,
                    server=old.server,
                    parsed_addresses=_addresses(interfaces),
                )
                _in_background(await self._zeroconf.async_update_service(moved))
            await self._zeroconf.async_update_interfaces(_places(interfaces), _version(interfaces))
        except (Error, OSError, RuntimeError) as error:
            raise NetworkError(f"the new addresses cannot be announced ({error!s:.200})") from error

    def browse(self, kind: ServiceKind, on_change: OnChange) -> Callable[[], None]:
        """Call *on_change* with each service of *kind*, those of this device too; return what ends it."""
        followed: dict[str, asyncio.Task[None] | None] = {}

        def changed(
            zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
        ) -> None:
            instance = name.removesuffix(f".{service_type}")
            lookup = followed.get(instance)
            if state_change is ServiceStateChange.Removed:
                if instance in followed:
                    del followed[instance]
                    if lookup is not None:
                        lookup.cancel()
                    on_change(instance, None)
                return
            if instance not in followed and len(followed) >= MAX_INSTANCES:
                logger.debug("%r is ignored: %d others are followed", instance[:64], MAX_INSTANCES)
                return
            if lookup is not None:
                lookup.cancel()
            followed[instance] = task = asyncio.create_task(
                self._look_up(zeroconf, kind, service_type, instance, on_change)
            )
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

        browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPES[kind], handlers=[changed])

        def end() -> None:
            _in_background(asyncio.ensure_future(browser.async_cancel()))

        return end

    async def close(self) -> None:
        """Withdraw everything, and close the sockets."""
        for lookup in self._lookups:
            lookup.cancel()
        with contextlib.suppress(Error, OSError):
            await self._zeroconf.async_close()

    async def _look_up(
        self, zeroconf: Zeroconf, kind: ServiceKind, service_type: str, instance: str, on_change: OnChange
    ) -> None:
        info = AsyncServiceInfo(service_type, f"{instance}.{service_type}")
        async with self._slots:
            try:
                is_complete = await info.async_request(zeroconf, RESOLVE_SECONDS * 1000)
            except (Error, OSError) as error:
                logger.debug("%r cannot be looked up: %s", instance[:64], error)
                return
        if is_complete and info.port:
            addresses = _readable(info.parsed_scoped_addresses())
            on_change(instance, Found(kind, instance, addresses, info.port, read_properties(info.properties)))


def _in_background(sent: Awaitable[object]) -> None:
    """Let *sent* go on; packets that cannot be sent are not an error, the network may be down."""
    task = asyncio.ensure_future(sent)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _addresses(interfaces: Sequence[Interface]) -> list[str]:
    return list(dict.fromkeys(address for one in interfaces for address in one.addresses))


def _places(interfaces: Sequence[Interface]) -> list[str | int]:
    """Return *interfaces* as zeroconf takes them: by address in IPv4, by number in IPv6."""
    places: list[str | int] = [address for one in interfaces for address in one.ipv4]
    places += [one.index for one in interfaces if one.has_ipv6]
    return places


def _version(interfaces: Sequence[Interface]) -> IPVersion:
    if any(one.has_ipv6 for one in interfaces):
        return IPVersion.All
    return IPVersion.V4Only


def _readable(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return those of *addresses* that lead to another device, link-local ones with their interface last."""
    near, far = [], []
    for text in addresses:
        host, _, scope = text.partition("%")
        ip = ipaddress.ip_address(host)
        if ip.is_loopback or ip.is_unspecified or ip.is_multicast:
            continue
        if not (ip.version == 6 and ip.is_link_local):
            far.append(host)
        elif scope.isdigit():
            with contextlib.suppress(OSError):  # the interface is gone
                near.append(f"{host}%{socket.if_indextoname(int(scope))}")
    return tuple([*far, *near][:MAX_ADDRESSES])
