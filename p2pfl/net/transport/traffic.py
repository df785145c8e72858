"""How many bytes went over the wire: per kind of connection, per peer, in all.

Counted where they enter and leave the sockets, so TLS's own bytes are included and TCP's are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["control", "bulk"]


@dataclass
class Meter:
    """Bytes of one connection, or a sum of several. One thread at a time adds to a connection's."""

    sent: int = 0
    received: int = 0


class Traffic:
    """The meters of all connections that peers were identified on, open and closed."""

    def __init__(self) -> None:
        self._open: list[tuple[Kind, str, Meter]] = []
        self._closed: dict[tuple[Kind, str], Meter] = {}

    def watch(self, kind: Kind, node: str, meter: Meter) -> None:
        """Count *meter* as a connection with *node*."""
        self._open.append((kind, node, meter))

    def settle(self, meter: Meter) -> None:
        """Keep the sums of *meter*, whose connection has ended, and forget it."""
        for entry in self._open:
            kind, node, open_meter = entry
            if open_meter is meter:
                self._open.remove(entry)
                total = self._closed.setdefault((kind, node), Meter())
                total.sent += meter.sent
                total.received += meter.received
                return

    def total(self, kind: Kind | None = None, node: str | None = None) -> Meter:
        """Return the bytes so far, of one *kind* of connection or with one *node* where given."""
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
