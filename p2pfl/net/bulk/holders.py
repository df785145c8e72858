"""The holders of a blob, and what is remembered about them.

Three bounded memories, without a clock of their own: nodes that could not be reached, the side that can dial,
and nodes that sent wrong bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from p2pfl.errors import PeerError
from p2pfl.net.transport.addresses import Address

MAX_REMEMBERED = 1024
"""Entries of each memory; the oldest is dropped first, which costs one attempt."""

BACKOFF_FACTOR = 4.0
"""Length of a back-off, in durations of the failed attempt: attempts take at most a fifth of the time."""

MAX_BACKOFF_SECONDS = 20.0
"""So that a repaired network is used soon, even if the link never broke."""

DIRECTION_DELAY_SECONDS = 1.0
"""Between the attempts in the two directions: a dial across the world, on a slow device, takes less."""

REDIAL_SECONDS = 60.0
"""After a failed dial, before the next one beside a dial-back."""

CORRUPT_SECONDS = 60.0
"""How long a holder is not asked again for a blob of which it sent wrong bytes."""

LOG_SECONDS = 60.0
"""Between two log lines about one corrupt holder."""

Direction = Literal["dial", "dial back"]
"""This node dials the holder, or asks it over the link to dial back."""

logger = logging.getLogger(__name__)

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Holder:
    """A node that may have a blob."""

    node: str
    name: str
    """For messages: the name in its certificate, or its short id while the name is unknown."""
    addresses: Sequence[Address]
    """Where it may be dialled, the most likely first."""


class DialBackoff:
    """Nodes that could not be reached, and how long they are not tried again.

    The back-off grows with the duration of the failed attempt, so a dead node costs little time.
    """

    def __init__(self, min_seconds: float = 0.0) -> None:
        """Remember no node yet; a back-off takes at least *min_seconds*, however fast the attempt failed."""
        self._min_seconds = min_seconds
        self._until: dict[str, tuple[float, str]] = {}

    def reason(self, node: str, now: float) -> str | None:
        """Return why the last attempt to reach *node* failed; None if it may be tried again."""
        until, reason = self._until.get(node, (now, ""))
        return reason if now < until else None

    def failed(self, node: str, reason: str, began: float, now: float) -> None:
        """Record that an attempt to reach *node*, made from *began* to *now*, failed."""
        seconds = min(max(BACKOFF_FACTOR * (now - began), self._min_seconds), MAX_BACKOFF_SECONDS)
        _remember(self._until, node, (now + seconds, reason))

    def forget(self, node: str) -> None:
        """Allow *node* to be tried at once."""
        self._until.pop(node, None)


class DialPlan(NamedTuple):
    """Which direction to try first, and the delay before the second."""

    order: tuple[Direction, Direction]
    delay: float


class DialDirections:
    """Which side can dial the other, for each node.

    If a firewall drops incoming connections, each dial takes its full timeout. So after one failure the
    holder is asked to dial back at once. From time to time both directions are tried together: firewalls
    change, devices move.
    """

    def __init__(self) -> None:
        self._undialable: dict[str, float] = {}
        """When to dial again, by node id."""

    def plan(self, node: str, now: float) -> DialPlan:
        """Return how to try to connect to *node*."""
        redial_at = self._undialable.get(node)
        if redial_at is None:
            return DialPlan(("dial", "dial back"), DIRECTION_DELAY_SECONDS)
        if now < redial_at:
            return DialPlan(("dial back", "dial"), DIRECTION_DELAY_SECONDS)
        return DialPlan(("dial", "dial back"), 0.0)

    def worked(self, node: str, direction: Direction, now: float) -> None:
        """Record that *direction* led to a connection, and the other one did not."""
        self._undialable.pop(node, None)
        if direction == "dial back":
            _remember(self._undialable, node, now + REDIAL_SECONDS)

    def forget(self, node: str) -> None:
        """Record that *node* can be dialled: a dial led to a link."""
        self._undialable.pop(node, None)


class CorruptHolders:
    """Holders that sent wrong bytes: their disk is damaged, or they lie.

    For a while such a holder is not asked for that blob again, since a pull would transfer the whole blob in
    vain. The limit is short: a holder that notices the damage pulls the blob anew.
    """

    def __init__(self) -> None:
        self._corrupt: dict[tuple[str, str], tuple[float, PeerError]] = {}
        """Until when, and why, by node id and digest."""
        self._log_at: dict[str, float] = {}
        """When the log may name a node again, by node id."""

    def add(self, node: str, name: str, digest: str, error: PeerError, now: float) -> None:
        """Record that *node*, called *name*, sent wrong bytes for blob *digest*."""
        _remember(self._corrupt, (node, digest), (now + CORRUPT_SECONDS, error))
        if now < self._log_at.get(node, now):
            return
        _remember(self._log_at, node, now + LOG_SECONDS)
        logger.warning(
            "%s gave wrong bytes and is not asked for that blob again: %s. Its disk may be damaged.",
            name,
            error,
        )

    def error(self, node: str, digest: str, now: float) -> PeerError | None:
        """Return the error of *node* for blob *digest*; None if it may be asked."""
        until, error = self._corrupt.get((node, digest), (now, None))
        return error if now < until else None


def _remember(memory: dict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    """Put *value* into a bounded memory as its newest entry."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]
