"""The address book: where nodes can be reached, from this node's own connections and from what peers tell.

An address is only ever a place to try: who answers there shows its certificate. So wrong entries cost a dial,
no more, and the book is bounded so that they cannot cost memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from p2pfl.errors import UserError
from p2pfl.net.transport.addresses import Address, parse_address
from p2pfl.wire.links import MAX_ADDRESSES

logger = logging.getLogger(__name__)

MAX_NODES = 1024
"""Nodes remembered: four times the largest roster, so that those who left do not crowd out those who come."""

MAX_FAILURES = 3
"""Dials in vain after which an address that others told is forgotten; they tell it again with a new link."""

MAX_TOLD = 4
"""Addresses of one node told to others; 256 nodes with four long ones stay below a frame's limit."""


class AddressBook:
    """Addresses by node id, the likeliest first."""

    def __init__(self, own_node: str) -> None:
        self._own_node = own_node
        self._addresses: dict[str, list[Address]] = {}
        self._failures: dict[str, dict[Address, int]] = {}
        """By node, dials in vain of the addresses that only others have told; as bounded as the addresses."""

    def addresses(self, node: str) -> tuple[Address, ...]:
        """Return where *node* may be reached."""
        return tuple(self._addresses.get(node, ()))

    def note(self, node: str, addresses: Iterable[Address], *, first: bool) -> bool:
        """Remember *addresses* of *node*, before those known already if *first*; return whether any is new.

        This node itself is not noted, nor a new node once the book is full.
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

    def strike(self, node: str, address: Address) -> None:
        """Forget that *node* could be at *address*: another one answered there."""
        if address in self._addresses.get(node, ()):
            self._addresses[node].remove(address)
            self._failures[node].pop(address, None)

    def fail(self, node: str, address: Address) -> None:
        """Take note that nobody was reached at *address*: what others told of *node* is soon forgotten."""
        failures = self._failures.get(node, {})
        if address in failures:
            failures[address] += 1
            if failures[address] >= MAX_FAILURES:
                self.strike(node, address)

    def forget(self, node: str) -> None:
        """Forget all addresses of *node*."""
        self._addresses.pop(node, None)
        self._failures.pop(node, None)


def parse_told(addresses: Sequence[str]) -> list[Address]:
    """Return those of a peer's *addresses* that are addresses and of use to somebody else."""
    parsed = []
    for text in addresses:
        try:
            address = parse_address(text)
        except UserError as error:
            logger.debug("an address told by a peer is ignored: %s", error)
        else:
            if address.is_useful_to_others:
                parsed.append(address)
    return parsed
