"""The address book: where nodes may be reached, learned from own connections and from peers.

An address is only a hint: whoever answers there must prove its identity with a certificate. So a wrong entry
costs one dial, and the book is bounded so that wrong entries cannot exhaust memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from p2pfl.errors import UserError
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.wire.links import MAX_ADDRESSES

logger = logging.getLogger(__name__)

MAX_NODES = 1024
"""Nodes in the book: four times the largest roster, so that nodes that left do not displace new ones."""

MAX_FAILURES = 3
"""Failed dials after which an address learned from peers is dropped; they send it again on a new link."""

MAX_SHARED = 4
"""Addresses of one node that are shared; 256 nodes with four long ones each fit into one frame."""


class AddressBook:
    """Addresses by node id, the most likely first."""

    def __init__(self, own_node: str) -> None:
        self._own_node = own_node
        self._addresses: dict[str, list[Address]] = {}
        self._failures: dict[str, dict[Address, int]] = {}
        """By node, failed dials of the addresses that only peers have sent; bounded like the addresses."""

    def addresses(self, node: str) -> tuple[Address, ...]:
        """Return the known addresses of *node*."""
        return tuple(self._addresses.get(node, ()))

    def add(self, node: str, addresses: Iterable[Address], *, first: bool) -> bool:
        """Add *addresses* of *node*, before the known ones if *first*; return whether any is new.

        Nothing is added for this node itself, nor for a new node when the book is full.
        """
        known = self._addresses.get(node, [])
        if node == self._own_node or (not known and len(self._addresses) >= MAX_NODES):
            return False
        new = list(dict.fromkeys(addresses))
        merged = [*new, *known] if first else [*known, *new]
        if not merged:
            return False
        self._addresses[node] = list(dict.fromkeys(merged))[:MAX_ADDRESSES]
        failures = self._failures.setdefault(node, {})
        for address in new:
            if first:
                failures.pop(address, None)
            elif address not in known and address in self._addresses[node]:
                failures[address] = 0
        return any(address not in known for address in self._addresses[node])

    def remove(self, node: str, address: Address) -> None:
        """Remove *address* of *node*: another node answered there."""
        if address in self._addresses.get(node, ()):
            self._addresses[node].remove(address)
            self._failures[node].pop(address, None)

    def dial_failed(self, node: str, address: Address) -> None:
        """Count a failed dial of *address*; after some, drop it if only peers have sent it."""
        failures = self._failures.get(node, {})
        if address in failures:
            failures[address] += 1
            if failures[address] >= MAX_FAILURES:
                self.remove(node, address)

    def forget(self, node: str) -> None:
        """Remove all addresses of *node*."""
        self._addresses.pop(node, None)
        self._failures.pop(node, None)


def parse_shared(addresses: Sequence[str]) -> list[Address]:
    """Return those of *addresses*, sent by a peer, that are valid and shareable."""
    parsed = []
    for text in addresses:
        try:
            address = parse_address(text)
        except UserError as error:
            logger.debug("an address from a peer is ignored: %s", error)
        else:
            if address.is_shareable:
                parsed.append(address)
    return parsed
