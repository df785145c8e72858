"""What is announced in the local network, and what was found there: values, with the limits of both.

Anybody in the network can announce anything. What was found only says where to dial: whoever answers there
must prove its identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from p2pfl.text import one_line

ServiceKind = Literal["node", "invitation"]

SERVICE_TYPES: Mapping[ServiceKind, str] = {
    "node": "_p2pfl._tcp.local.",
    "invitation": "_p2pfl-invite._tcp.local.",
}
"""By kind, the DNS-SD service type."""

MAX_INSTANCE_BYTES = 63
"""A label of the domain name system."""

MAX_PROPERTY_BYTES = 255
"""One `key=value` of a TXT record, with its key: its length is one byte."""

MAX_PROPERTIES = 16
"""Properties that are read from a TXT record: more than either kind of service has."""

MAX_ADDRESSES = 8
"""Addresses of one service that are read: more than a device has in one network."""


@dataclass(frozen=True)
class Service:
    """A service of this device, to be announced."""

    kind: ServiceKind
    instance: str
    """Its name, unique in the network, of at most `MAX_INSTANCE_BYTES`."""
    port: int
    properties: Mapping[str, str] = field(default_factory=dict)
    """The TXT record. Everybody in the network can read it."""

    def __post_init__(self) -> None:
        """Check the sizes: a longer name or property cannot be sent."""
        if not 0 < len(self.instance.encode()) <= MAX_INSTANCE_BYTES:
            raise ValueError(f"the name {self.instance!r} must have 1 to {MAX_INSTANCE_BYTES} bytes")
        for key, value in self.properties.items():
            if len(f"{key}={value}".encode()) > MAX_PROPERTY_BYTES:
                raise ValueError(f"the property {key!r} has more than {MAX_PROPERTY_BYTES} bytes")


@dataclass(frozen=True)
class Found:
    """A service of another device, as the network says."""

    kind: ServiceKind
    instance: str
    addresses: tuple[str, ...]
    """IP literals without a port: IPv4 first, link-local IPv6 last, as `fe80::1%eth0`."""
    port: int
    properties: Mapping[str, str]
    """The TXT record, its texts made printable."""


def read_properties(raw: Mapping[bytes, bytes | None]) -> dict[str, str]:
    """Return the TXT record *raw* as texts that can be shown; what is too long or no UTF-8 is left out."""
    properties = {}
    for key, value in list(raw.items())[:MAX_PROPERTIES]:
        if len(key) + len(value or b"") >= MAX_PROPERTY_BYTES:
            continue
        try:
            properties[one_line(key.decode("ascii").lower())] = one_line(
                (value or b"").decode(), MAX_PROPERTY_BYTES
            )
        except UnicodeDecodeError:
            continue
    return properties
