"""The states of a connection to a node, and the items it delivers.

A module of its own, so that a replay can use these types without importing TLS.
"""

from __future__ import annotations

from typing import NamedTuple

from p2pfl.events import Published, RoundRow
from p2pfl.wire.observing import ObserverWelcome

Item = Published | RoundRow
"""What a node sends: events, and committed rounds of its history."""


class Connected(NamedTuple):
    """The connection is open."""

    greeting: ObserverWelcome


class Retrying(NamedTuple):
    """There is no connection; the next attempt is scheduled."""

    number: int
    """Number of the next attempt since the connection was lost, from 1."""
    at: float
    """Time of that attempt, in seconds since the epoch."""
    reason: str


class NodeEnded(NamedTuple):
    """The node announced that it ends; there are no more attempts."""

    reason: str


Connection = Connected | Retrying | NodeEnded
