"""Counts bytes sent and received: for each kind of connection, for each peer, and in total.

Bytes are counted above TLS: record headers, handshakes and TCP overhead are not included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["control", "bulk"]


@dataclass
class Meter:
    """Bytes of one connection, or the sum of several. Only one thread at a time may add to it."""

    sent: int = 0
    received: int = 0


class Traffic:
    """The meters of all connections with identified peers, open and closed."""

    def __init__(self) -> None:
        self._open: list[tuple[Kind, str, Meter]] = []
        self._closed: dict[tuple[Kind, str], Meter] = {}

    def watch(self, kind: Kind, node: str, meter: Meter) -> None:
        """Include *meter*, that of a connection with *node*, in the totals."""
        self._open.append((kind, node, meter))

    def settle(self, meter: Meter) -> None:
        """Add *meter*, whose connection has ended, to the totals of its node, and drop it."""
        for entry in self._open:
            kind, node, open_meter = entry
            if open_meter is meter:
                self._open.remove(entry)
                total = self._closed.setdefault((kind, node), Meter())
                total.sent += meter.sent
                total.received += meter.received
                return

    def total(self, kind: Kind | None = None, node: str | None = None) -> Meter:
        """Return the bytes so far; with *kind* or *node*, only those of that kind or node."""
        meters = (
            meter
            for a_kind, a_node, meter in self._all()
            if kind in (None, a_kind) and node in (None, a_node)
        )
        total = Meter()
        for meter in meters:
            total.sent += meter.sent
            total.received += meter.received
        return total

    def _all(self) -> Iterable[tuple[Kind, str, Meter]]:
        yield from self._open
        for (kind, node), meter in self._closed.items():
            yield kind, node, meter
