"""Which side dials for bulk: what worked lately for each node, and so what is tried first.

A device behind a firewall that drops what comes in costs whoever dials it a timeout. So after the first
failure such a node is called to dial itself, at once; and now and then both are tried together, since
firewalls are opened and devices move. Pure: the caller brings the time.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Way = Literal["dial", "call"]
"""Dial the node, or call it over the link so that it dials."""

HEAD_START_SECONDS = 1.0
"""Of the way that is likely to work: a dial across the world, on a slow device, takes less."""

PROBE_SECONDS = 60.0
"""After a failed dial until the next one beside a call."""

MAX_NODES = 1024
"""Nodes remembered; the oldest is forgotten first, which costs a head start."""


class Plan(NamedTuple):
    """What to try, in which order, and how long to wait between the two."""

    order: tuple[Way, Way]
    head_start: float


class Ways:
    """What is known of the ways to each node."""

    def __init__(self) -> None:
        self._undialable: dict[str, float] = {}
        """When the next dial is due, by node id."""

    def plan(self, node: str, now: float) -> Plan:
        """Return how to try *node*."""
        due = self._undialable.get(node)
        if due is None:
            return Plan(("dial", "call"), HEAD_START_SECONDS)
        if now < due:
            return Plan(("call", "dial"), HEAD_START_SECONDS)
        return Plan(("dial", "call"), 0.0)

    def worked(self, node: str, way: Way, now: float) -> None:
        """Take note that a connection came about by *way*, and none by the other."""
        self._undialable.pop(node, None)
        if way == "call":
            self._undialable[node] = now + PROBE_SECONDS
            if len(self._undialable) > MAX_NODES:
                del self._undialable[next(iter(self._undialable))]

    def forget(self, node: str) -> None:
        """Take note that *node* may be dialled again: a link to it was."""
        self._undialable.pop(node, None)
