"""How many nodes a node waits for before a run, where its operator gave no number.

With listed addresses these are the devices behind them. Otherwise they are the nodes that this device met
before, and those that it finds in the local network while it waits; with mDNS at least one other, because a
device alone has nothing to federate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol

from p2pfl.config import DEFAULT_PORT
from p2pfl.discovery.announcements import NODE_PREFIX
from p2pfl.spec import MAX_ROSTER

NOBODY_SECONDS = 5.0
"""After the start: time until it is said that nobody was found. Devices find each other in one or two."""

NOBODY = (
    "nobody found yet: start `p2pfl node` on another device of this network with a certificate of this "
    f"federation, or give addresses with --peers HOST:{DEFAULT_PORT}; to train alone, give --min-nodes 1"
)


class NodesInSight(Protocol):
    """The part of the mesh that knows who is there."""

    @property
    def expected(self) -> int:
        """Number of devices that the listed addresses and this node are."""

    def links(self) -> Collection[str]:
        """Return the ids of the linked nodes."""

    def is_banned(self, node: str) -> bool:
        """Whether *node* is kept out of the federation."""


class Expectation:
    """The number of nodes to wait for, which changes while the node waits."""

    def __init__(
        self,
        *,
        listed: int,
        known: Collection[str] = (),
        has_mdns: bool = False,
        is_held: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect the devices behind addresses, or else those known and found.

        *listed* is the number of the first, this one included. *known* are node ids. *has_mdns* is whether
        other nodes are looked for in the local network. With *is_held* its operator says when the run starts,
        and needs no advice about it.
        """
        self._listed = listed
        self._has_mdns = has_mdns and listed == 1
        self.known = frozenset(known) if listed == 1 else frozenset()
        """The known nodes that are waited for."""
        self._least = 2 if self._has_mdns else 1
        self._clock = clock
        self._started = clock()
        self._is_told = bool(self.known) or not self._has_mdns or is_held
        self.number = min(max(self._least, 1 + len(self.known), listed), MAX_ROSTER)
        """The number of nodes to wait for, as of the last `update`."""
        self.told = listed if listed > 1 else min(1 + len(self.known), MAX_ROSTER)
        """The number of devices that this node was told of, itself included: listed, or known from before."""

    @property
    def founds_alone(self) -> bool:
        """Whether no other node is waited for."""
        return self.number == 1

    def update(self, nodes: NodesInSight, found: Collection[str] = ()) -> bool:
        """Count anew; return whether a number has changed.

        *found* are the beginnings of the ids of nodes in the local network.
        """
        before = self.number, self.told
        if self._listed > 1:
            self.number = self.told = min(nodes.expected, MAX_ROSTER)
        else:
            known = {node for node in self.known if not nodes.is_banned(node)}
            self.told = min(1 + len(known), MAX_ROSTER)
            ids = {*known, *(nodes.links() if self._has_mdns else ())}
            more = set(found) - {node[:NODE_PREFIX] for node in ids}
            self.number = min(max(self._least, 1 + len(ids) + len(more)), MAX_ROSTER)
            self._is_told |= bool(ids or more)
        return (self.number, self.told) != before

    def nobody_is_here(self) -> bool:
        """Whether it is time to say that nobody was found; true once."""
        if self._is_told or self._clock() - self._started < NOBODY_SECONDS:
            return False
        self._is_told = True
        return True
