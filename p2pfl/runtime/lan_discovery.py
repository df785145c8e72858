"""Lets a node and the other nodes of its federation find each other in the local network.

What the network says is a hint: the mesh dials what was found, and TLS proves who is there. Each thing found
or ignored is told once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from p2pfl import __version__
from p2pfl.discovery.announcements import NODE_PREFIX, NodeAnnouncement, node_service, read_node
from p2pfl.discovery.services import Found
from p2pfl.errors import NetworkError
from p2pfl.events import Notice
from p2pfl.net.dialling.dialler import FoundService
from p2pfl.net.transport.addresses import Address

if TYPE_CHECKING:
    from p2pfl.discovery.lan import Lan, OnTrouble

logger = logging.getLogger(__name__)

MAX_TOLD = 64
"""Notices about what was found or ignored: a device in the network can announce any number of services."""

FOUND_PATIENCE = 15.0
"""Seconds for which a found node that is not linked is waited for before a run. Whoever can be reached at all
is linked within one or two; longer would let an announcement without a node behind it hold the run up."""

OpenLan = Callable[["OnTrouble", Callable[[], None]], AbstractAsyncContextManager["Lan"]]
"""Opens the local network; takes what is told of trouble, and what is called after a change of addresses."""


class FoundNodes(Protocol):
    """The part of the mesh that dials what was found."""

    def found(self, service: FoundService, addresses: Sequence[Address], node: str, name: str) -> bool:
        """Keep dialling a node; return False if too many were found."""

    def gone(self, service: FoundService) -> None:
        """Stop dialling a node."""

    def own_addresses_changed(self) -> None:
        """Renew the links after a change of this device's addresses."""


class LanDiscovery:
    """Announces a node, finds those of its federation, and says so."""

    def __init__(
        self,
        own: NodeAnnouncement,
        port: int,
        mesh: FoundNodes,
        names: Callable[[], Sequence[tuple[str, str]]],
        notify: Callable[[Notice], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do nothing yet; *names* returns node id and name of the nodes that this one knows."""
        self._own = own
        self._service = node_service(own, port)
        self._mesh = mesh
        self._names = names
        self._notify = notify
        self._clock = clock
        self._addresses: dict[str, list[Address]] = {}
        """By instance, the addresses of the nodes that are dialled."""
        self._prefixes: dict[str, tuple[str, float]] = {}
        """By instance, the beginning of the node's id, and when it was found."""
        self._told: set[str] = set()
        self._trouble = ""

    async def run(self, open_lan: OpenLan) -> None:
        """Announce and look until cancelled; without mDNS on this device, say so and end."""
        try:
            async with (
                open_lan(self._on_trouble, self._mesh.own_addresses_changed) as network,
                network.browsing("node", self.on_change),
                network.announced(self._service),
            ):
                await asyncio.get_running_loop().create_future()
        except NetworkError as error:
            self._on_trouble(f"mDNS does not work on this device: {error}")

    def on_change(self, instance: str, found: Found | None) -> None:
        """Take what the network says about a service: what was found, or None if it is gone."""
        if found is None:
            if self._addresses.pop(instance, None) is not None:
                del self._prefixes[instance]
                self._mesh.gone(FoundService(instance))
            return
        announcement = read_node(found)
        if announcement is None or not found.addresses:
            return
        if announcement.node == self._own.node[:NODE_PREFIX]:
            return
        where = Address(found.addresses[0], found.port)
        if announcement.federation != self._own.federation:
            self._tell(
                f"federation {announcement.federation} {announcement.node}",
                f"the node at {where} is ignored: it is of another federation",
            )
        elif not announcement.shares_protocol(self._own):
            self._tell(
                f"version {announcement.version} {announcement.node}",
                f"the node at {where} is ignored: its p2pfl {announcement.version} and this device's "
                f"{__version__} share no version of the protocol; upgrade the older one",
                "warning",
            )
        else:
            self._dial(instance, announcement, found)

    def awaited(self, linked: Collection[str]) -> set[str]:
        """Return the beginnings of the ids of nodes that were found, and are waited for before a run.

        These are *linked* ones, and those found so lately that they may still be reached.
        """
        since = self._clock() - FOUND_PATIENCE
        prefixes = {node[:NODE_PREFIX] for node in linked}
        return {prefix for prefix, at in self._prefixes.values() if at >= since or prefix in prefixes}

    def _dial(self, instance: str, announcement: NodeAnnouncement, found: Found) -> None:
        before = self._addresses.get(instance)
        addresses = [Address(host, found.port) for host in found.addresses]
        if before is not None and set(before) == set(addresses):
            return
        node, name = next(
            ((node, name) for node, name in self._names() if node.startswith(announcement.node)), ("", "")
        )
        if not self._mesh.found(FoundService(instance), addresses, node, name):
            logger.info("%s is not dialled: too many nodes were found", addresses[0])
            return
        self._addresses[instance] = addresses
        self._prefixes.setdefault(instance, (announcement.node, self._clock()))
        who = name or "a node of this federation"
        if before is None:
            self._tell(f"found {announcement.node}", f"found {who} at {addresses[0]}")
        elif addresses[0] not in before:
            self._tell(f"moved {announcement.node} {addresses[0]}", f"{who} is at {addresses[0]} now")

    def _tell(self, key: str, text: str, level: str = "info") -> None:
        """Tell *text* unless something with the same *key* was told."""
        if key not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(key)
            self._notify(Notice("warning" if level == "warning" else "info", text))

    def _on_trouble(self, trouble: str) -> None:
        if trouble:
            self._notify(Notice("warning", f"{trouble}; this node goes on with the addresses that it knows"))
        elif self._trouble:
            self._notify(Notice("info", "mDNS works again on this device"))
        self._trouble = trouble
