"""Addresses as people write them: `host`, `host:port`, `192.0.2.7:9000`, `[2001:db8::1]:9000`.

An address says where to dial, never who answers: identity is the certificate's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from p2pfl.config import DEFAULT_PORT
from p2pfl.errors import UserError

MAX_HOST_CHARACTERS = 253
"""Of a host name in the domain name system."""

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
        """Whether it means this very device: of no use to another one."""
        ip = _ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def is_useful_to_others(self) -> bool:
        """Whether another device may get anywhere with it: no wildcard, no address of one link only."""
        ip = _ip(self.host)
        return ip is None or not (ip.is_unspecified or ip.is_link_local)


def parse_address(text: str, default_port: int = DEFAULT_PORT, *, least_port: int = 1) -> Address:
    """Read an address, with *default_port* where it names none.

    Port 0 (any free one) makes sense only for listening and passes only with *least_port* 0.

    Raises:
        UserError: it is no address; the message shows the forms there are.
    """
    host, port = _split(text.strip())
    number = default_port if port is None else int(port) if re.fullmatch("[0-9]{1,5}", port) else -1
    if not least_port <= number <= 65535:
        raise _bad(text, f"the port must be a number from {least_port} to 65535")
    if _ip(host) is None and (len(host) > MAX_HOST_CHARACTERS or not _HOST.fullmatch(host)):
        raise _bad(text, "the host must be a name or an IP address")
    return Address(host, number)


def parse_listen(text: str) -> tuple[str | None, int]:
    """Read where to listen, `PORT`, `:PORT` or `HOST:PORT`: host (None: every interface) and port.

    Raises:
        UserError: it is none of these.
    """
    bare = text.strip().removeprefix(":")
    if bare.isdigit():
        return None, parse_address(f"localhost:{bare}", least_port=0).port
    address = parse_address(text, least_port=0)
    return address.host, address.port


def normal(host: str) -> str:
    """Return an IP literal in its shortest form, IPv4 mapped into IPv6 as IPv4; a name as it is."""
    ip = _ip(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return host if ip is None else str(ip)


def _split(text: str) -> tuple[str, str | None]:
    if match := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text):
        if not isinstance(_ip(match[1]), ipaddress.IPv6Address):
            raise _bad(text, "only an IPv6 address stands in brackets")
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
        f"{text[:100]!r} is no address: {why}. Write HOST:PORT, such as laptop.local:9000, 192.0.2.7:9000 or "
        "[2001:db8::1]:9000."
    )
