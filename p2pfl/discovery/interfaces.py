"""Chooses the network interfaces in which services are announced and looked for.

These are the interfaces that lead to other devices of the same network. Without a choice by the user, these
are left out: loopback, interfaces that are down, have no address or do not carry multicast, point-to-point
ones (VPNs, mobile networks), and those that programs for containers and virtual machines make inside this
device. If nothing is left, point-to-point interfaces that carry multicast are used.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psutil

from p2pfl.errors import UserError

_INTERNAL = re.compile(
    r"docker\d+|br-[0-9a-f]{12}|veth[0-9a-f]+|virbr\d+(-nic)?|vnet\d+|vmnet\d+|vboxnet\d+|cni\d+|cali\w+"
    r"|flannel[.\w]*|podman\d+|lxcbr\d+|lxdbr\d+|incusbr\d+|awdl\d+|llw\d+|anpi\d+|vEthernet \(.*\)"
)
"""Names of interfaces that lead into this device only: of Docker, Podman, Kubernetes, libvirt, LXD, VMware,
VirtualBox and Hyper-V, and of macOS's own services. A bridge that an administrator made, such as br0, is not
among them."""


@dataclass(frozen=True)
class Interface:
    """A network interface of this device that is up and has an address."""

    name: str
    index: int
    """The number by which the system knows it."""
    addresses: tuple[str, ...]
    """Its IP addresses; link-local IPv6 ones without the interface."""
    flags: frozenset[str] = frozenset()
    """As `ifconfig` names them; empty where the system does not tell them (Windows)."""

    @property
    def ipv4(self) -> tuple[str, ...]:
        """Its IPv4 addresses."""
        return tuple(address for address in self.addresses if ":" not in address)

    @property
    def has_ipv6(self) -> bool:
        """Whether it has an IPv6 address."""
        return len(self.ipv4) < len(self.addresses)

    @property
    def is_point_to_point(self) -> bool:
        """Whether it has only one other end, as VPNs have."""
        return "pointopoint" in self.flags

    @property
    def is_loopback(self) -> bool:
        """Whether it leads this device to itself."""
        return all(ipaddress.ip_address(address).is_loopback for address in self.addresses)

    @property
    def leads_outside(self) -> bool:
        """Whether multicast on it reaches other devices, as far as its name and flags tell."""
        carries_multicast = not self.flags or "multicast" in self.flags
        return carries_multicast and not self.is_loopback and not _INTERNAL.fullmatch(self.name)

    def only(self, hosts: Sequence[str]) -> Interface:
        """Return this interface with those of its addresses that are in *hosts*."""
        return replace(self, addresses=tuple(address for address in self.addresses if address in hosts))


def usable_interfaces(names: Sequence[str] = (), hosts: Sequence[str] = ()) -> tuple[Interface, ...]:
    """Return the interfaces to use now: those with the given *names*, or those chosen as the module says.

    One of *names* that is down or has no address at the moment is left out. *hosts* are the IP addresses on
    which the service listens, unless it listens on all: then only these count, on whatever interface.
    """
    present = tuple(_present())
    if hosts and not any(ipaddress.ip_address(host).is_unspecified for host in hosts):
        present = tuple(one.only(hosts) for one in present if set(hosts) & set(one.addresses))
        return tuple(one for one in present if not one.is_loopback and (not names or one.name in names))
    return tuple(one for one in present if one.name in names) if names else choose(present)


def choose(present: Sequence[Interface]) -> tuple[Interface, ...]:
    """Return those of the interfaces *present* that lead to other devices of the same network."""
    outside = tuple(one for one in present if one.leads_outside)
    return tuple(one for one in outside if not one.is_point_to_point) or outside


def check_interfaces(names: Iterable[str]) -> None:
    """Check that this device has the interfaces that the user named.

    Raises:
        UserError: it has no interface of one of the names; the message lists those that it has.
    """
    present = psutil.net_if_stats()
    for name in names:
        if name not in present:
            raise UserError(
                f"This device has no network interface {name[:64]!r}: give --interface one of "
                f"{', '.join(sorted(present))}."
            )


def _present() -> Iterable[Interface]:
    addresses = psutil.net_if_addrs()
    for name, stats in psutil.net_if_stats().items():
        own = tuple(
            dict.fromkeys(
                entry.address.partition("%")[0]
                for entry in addresses.get(name, ())
                if entry.family in (socket.AF_INET, socket.AF_INET6)
            )
        )
        try:
            index = socket.if_nametoindex(name)
        except OSError:  # it has just been removed
            continue
        if stats.isup and own:
            yield Interface(name, index, own, frozenset(filter(None, stats.flags.split(","))))
