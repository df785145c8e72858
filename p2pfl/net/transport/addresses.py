"""Parses network addresses: `host`, `host:port`, `192.0.2.7:9000`, `[2001:db8::1]:9000`.

An address says where to dial. It never identifies a node: only the certificate does.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from p2pfl.config import DEFAULT_PORT
from p2pfl.errors import UserError

MAX_HOST_CHARACTERS = 253
"""The longest host name in the domain name system."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True, order=True)
class Address:
    """A host (name or IP literal, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is a loopback address, which leads a device to itself."""
        ip = _ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def is_shareable(self) -> bool:
        """Whether another device may use it: it is neither a wildcard nor link-local."""
        ip = _ip(self.host)
        return ip is None or not (ip.is_unspecified or ip.is_link_local)


def parse_address(text: str, default_port: int = DEFAULT_PORT, *, least_port: int = 1) -> Address:
    """Parse *text*; without a port in it, use *default_port*.

    Port 0 (any free port) makes sense only for listening: it is accepted only with *least_port* 0.

    Raises:
        UserError: it is not an address; the message shows the valid forms.
    """
    host, port = _split(text.strip())
    number = default_port if port is None else int(port) if re.fullmatch("[0-9]{1,5}", port) else -1
    if not least_port <= number <= 65535:
        raise _bad(text, f"the port must be a number from {least_port} to 65535")
    if _ip(host) is None and (len(host) > MAX_HOST_CHARACTERS or not _HOST.fullmatch(host)):
        raise _bad(text, "the host must be a name or an IP address")
    return Address(host, number)


def parse_listen(text: str) -> tuple[str | None, int]:
    """Parse a listening address, `PORT`, `:PORT` or `HOST:PORT`.

    Return the host (None: every interface) and the port.

    Raises:
        UserError: it has none of these forms.
    """
    bare = text.strip().removeprefix(":")
    if bare.isdigit():
        return None, parse_address(f"localhost:{bare}", least_port=0).port
    address = parse_address(text, least_port=0)
    return address.host, address.port


def normal(host: str) -> str:
    """Return an IP literal in its shortest form and IPv4-mapped IPv6 as IPv4; return a name unchanged."""
    ip = _ip(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return host if ip is None else str(ip)


def _split(text: str) -> tuple[str, str | None]:
    if match := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text):
        if not isinstance(_ip(match[1]), ipaddress.IPv6Address):
            raise _bad(text, "only an IPv6 address may be in brackets")
        return match[1], match[2]
    if text.count(":") > 1:
        if _ip(text) is None:
            raise _bad(text, "an IPv6 address with a port needs brackets, as in [::1]:9000")
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bad(text: str, why: str) -> UserError:
    return UserError(
        f"{text[:100]!r} is not an address: {why}. Write HOST:PORT, such as laptop.local:9000, "
        "192.0.2.7:9000 or [2001:db8::1]:9000."
    )
