"""How a connection to a node is, and what comes over it: words that need no network to be said."""

from __future__ import annotations

from typing import NamedTuple

from p2pfl.events import Published, RoundRow
from p2pfl.wire.observing import ObserverWelcome

Item = Published | RoundRow
"""What a node tells: what happens, and rounds that lie behind."""


class Connected(NamedTuple):
    """The node answers."""

    greeting: ObserverWelcome


class Retrying(NamedTuple):
    """The node is not connected; it is tried again."""

    number: int
    """Of the next attempt since the connection was lost; from 1 on."""
    at: float
    """When that is, in seconds since the epoch."""
    reason: str


class Over(NamedTuple):
    """The node has ended and said so: nothing is tried any more."""

    reason: str


Connection = Connected | Retrying | Over
