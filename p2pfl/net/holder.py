"""Who may have a blob, as a pull sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfl.net.addresses import Address


@dataclass(frozen=True)
class Holder:
    """A node that may have a blob."""

    node: str
    name: str
    """For people: the name in its certificate, or its short id while it is not known."""
    addresses: Sequence[Address]
    """Where it may be dialled, the likeliest first."""
