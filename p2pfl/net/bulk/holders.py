"""Nodes that could not be reached, for as long as it makes no sense to try again.

The longer a failed try took, the longer the next one waits, so that only a small share of the time is spent
on a node that nothing reaches. Pure: the caller brings the time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from p2pfl.errors import PeerError
from p2pfl.net.transport.addresses import Address

FACTOR = 4.0
"""Times what a failed try took: at most a fifth of the time is spent on trying."""

MOST_SECONDS = 20.0
"""Until the next try: a mended network is used soon, also where the link never broke."""


class Barred:
    """Who is not tried again yet, and why the last try failed."""

    def __init__(self, least_seconds: float = 0.0) -> None:
        """Remember nobody yet; *least_seconds* pass until the next try, however quickly one failed."""
        self._least_seconds = least_seconds
        self._until: dict[str, tuple[float, str]] = {}

    def reason(self, node: str, now: float) -> str | None:
        """Return why the last try of *node* failed if it is too early for the next one."""
        until, reason = self._until.get(node, (now, ""))
        return reason if now < until else None

    def failed(self, node: str, reason: str, began: float, now: float) -> None:
        """Take note that a try of *node* that *began* then has failed *now*."""
        rest = min(max(FACTOR * (now - began), self._least_seconds), MOST_SECONDS)
        self._until.pop(node, None)
        self._until[node] = (now + rest, reason)
        if len(self._until) > MAX_REMEMBERED:
            del self._until[next(iter(self._until))]

    def forget(self, node: str) -> None:
        """Let *node* be tried at once."""
        self._until.pop(node, None)


Way = Literal["dial", "call"]
"""Dial the node, or call it over the link so that it dials."""

HEAD_START_SECONDS = 1.0
"""Of the way that is likely to work: a dial across the world, on a slow device, takes less."""

PROBE_SECONDS = 60.0
"""After a failed dial until the next one beside a call."""


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
            if len(self._undialable) > MAX_REMEMBERED:
                del self._undialable[next(iter(self._undialable))]

    def forget(self, node: str) -> None:
        """Take note that *node* may be dialled again: a link to it was."""
        self._undialable.pop(node, None)


MAX_REMEMBERED = 1024
"""Entries of each memory; the oldest is forgotten first."""

logger = logging.getLogger(__name__)

FORGET_SECONDS = 60.0
"""Until a holder is asked for the same blob again."""

REPEAT_SECONDS = 60.0
"""Between two lines in the log about one holder."""


_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class Blame:
    """What holders are to blame for."""

    def __init__(self) -> None:
        self._wrong: dict[tuple[str, str], tuple[float, PeerError]] = {}
        """Until when, and for what, by node id and digest."""
        self._told: dict[str, float] = {}
        """When the log may name a node again, by node id."""

    def blame(self, node: str, name: str, digest: str, error: PeerError, now: float) -> None:
        """Take note that *node*, called *name*, gave wrong bytes for blob *digest*."""
        _keep(self._wrong, (node, digest), (now + FORGET_SECONDS, error))
        if now < self._told.get(node, now):
            return
        _keep(self._told, node, now + REPEAT_SECONDS)
        logger.warning(
            "%s gave wrong bytes and is not asked for that blob again: %s. Its disk may be damaged.",
            name,
            error,
        )

    def error(self, node: str, digest: str, now: float) -> PeerError | None:
        """Return what *node* was blamed for if it is not to be asked for blob *digest* yet."""
        until, error = self._wrong.get((node, digest), (now, None))
        return error if now < until else None


def _keep(memory: dict[_KeyT, _ValueT], key: _KeyT, value: _ValueT) -> None:
    """Put a value into a bounded memory, as the newest."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


@dataclass(frozen=True)
class Holder:
    """A node that may have a blob."""

    node: str
    name: str
    """For people: the name in its certificate, or its short id while it is not known."""
    addresses: Sequence[Address]
    """Where it may be dialled, the likeliest first."""
