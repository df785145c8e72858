"""The address under which other devices of the network reach this one."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import psutil

from p2pfl.net.transport.addresses import normal

FAR = "192.0.2.1"
"""An address of RFC 5737, which no device has: the way to it is the way out of this network."""


def own_address() -> str:
    """Return this device's address in its network: that of the way out of it, or any other but loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((FAR, 9))  # sends nothing: it only chooses a way
        return normal(probe.getsockname()[0])
    usable = [one for one in _addresses() if not (one.is_loopback or one.is_link_local)]
    usable.sort(key=lambda one: one.version)
    return str(usable[0]) if usable else "127.0.0.1"


def _addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of all interfaces that are up."""
    is_up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return [
        ipaddress.ip_address(one.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        if name in is_up
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6)
    ]
