"""The linked nodes of a mesh, and the addresses that it shares with them about each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from p2pfl.identity.keys import short
from p2pfl.net.dialling.address_book import MAX_SHARED
from p2pfl.net.links.link import Link
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.transport.addresses import Address
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import PeerAddresses, Peers


@dataclass(frozen=True)
class Neighbour:
    """A linked node."""

    link: Link
    addresses: tuple[Address, ...]
    """The addresses to share with other nodes."""
    is_loopback: bool
    """Whether it runs on this device."""


class Neighbours:
    """The linked nodes, by node id."""

    def __init__(self) -> None:
        self._linked: dict[str, Neighbour] = {}

    def __contains__(self, node: str) -> bool:
        return node in self._linked

    def __iter__(self) -> Iterator[str]:
        return iter(self._linked)

    def link(self, node: str) -> Link | None:
        """Return the link to *node*."""
        neighbour = self._linked.get(node)
        return neighbour.link if neighbour is not None else None

    def links(self) -> list[Link]:
        """Return all links."""
        return [neighbour.link for neighbour in self._linked.values()]

    def peers(self) -> dict[str, LinkedPeer]:
        """Return the linked peers by node id."""
        return {node: neighbour.link.peer for node, neighbour in self._linked.items()}

    def name(self, node: str) -> str:
        """Return the name of *node* for messages; its short id if it is not linked."""
        link = self.link(node)
        return link.peer.name if link is not None else short(node)

    def send(self, node: str, frame: ControlFrame) -> bool:
        """Queue *frame* for *node*; return False if there is no link, or its queue is full."""
        link = self.link(node)
        return link is not None and link.send(frame)

    def is_current(self, link: Link) -> bool:
        """Whether *link* is the current link to its node."""
        return self.link(link.peer.member.node) is link

    def add(self, node: str, neighbour: Neighbour) -> None:
        """Add a newly linked node."""
        self._linked[node] = neighbour

    def remove(self, node: str) -> Link | None:
        """Remove *node*; return its link, None if there is none."""
        neighbour = self._linked.pop(node, None)
        return neighbour.link if neighbour is not None else None

    def introduce(self, node: str) -> None:
        """Send *node* the addresses of the other nodes, and send them the addresses of *node*."""
        newcomer = self._linked[node]
        others = {other: self._linked[other] for other in self._linked if other != node}
        _send_peers(newcomer, others)
        for other in others.values():
            _send_peers(other, {node: newcomer})


def _send_peers(recipient: Neighbour, peers: Mapping[str, Neighbour]) -> None:
    """Send *recipient* the addresses of *peers* that are routable from the recipient."""
    shared = []
    for node, neighbour in peers.items():
        routable = tuple(
            str(address)
            for address in neighbour.addresses
            if address.is_shareable and (recipient.is_loopback or not address.is_loopback)
        )
        if routable:
            shared.append(PeerAddresses(node, neighbour.link.peer.name, routable[:MAX_SHARED]))
    if shared:
        recipient.link.send(Peers(tuple(shared)))
