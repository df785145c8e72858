"""Network namespaces for tests: devices, each with a cable to one switch, on one Linux machine.

The switch is a bridge in its own namespace, so the network of the machine is unchanged. This needs root and a
kernel that permits it; otherwise the test is skipped with the reason.

A device may have a firewall that drops incoming connections (`shut`), or be behind a router that translates
addresses (*hidden*). Neither needs a packet filter, which some machines lack: a routing rule drops the answers
to incoming connections, and the router is a program in its own namespace. Devices that are *masked* are on a
second switch, behind a router whose kernel masquerades their addresses, as one at home does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.support.source import ROOT

PORT = 9000
"""The port on which every device listens."""

SUBNET = "10.203.0"
"""Visible only to the devices."""

HOME = "10.204.0"
"""The network of the masked devices, to which no other device has a route."""

ROUTER = 254
"""The last number of the router's address in both networks."""


class Wires:
    """One namespace, address and cable for each of *names*."""

    def __init__(self, names: Sequence[str], hidden: Sequence[str] = (), masked: Sequence[str] = ()) -> None:
        """Create nothing yet; each device in *hidden* has its own router, those in *masked* share one."""
        self._hidden = hidden
        self._masked = masked
        self._routers: list[subprocess.Popen[bytes]] = []
        self._prefix = f"p2pfl-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._home, self._router = f"{self._prefix}-home", f"{self._prefix}-router"
        self._numbers = {name: number for number, name in enumerate(names, 1)}

    def inside(self, name: str) -> tuple[str, ...]:
        """Return the command prefix that runs a command on device *name*."""
        return ("ip", "netns", "exec", self._namespace(name))

    def address(self, name: str) -> str:
        return f"{HOME if name in self._masked else SUBNET}.{self._numbers[name]}"

    def peers(self, name: str) -> str:
        """Return the addresses of all other devices as seen from *name*, for `--peers`."""
        others = [(other, number) for other, number in self._numbers.items() if other != name]
        if name in self._hidden:
            return ",".join(f"{self._inner(name)}.1:{PORT + number}" for _, number in others)
        return ",".join(f"{self.address(other)}:{PORT}" for other, _ in others)

    def listen(self, name: str) -> str:
        """Return the address on which device *name* listens, for `--listen`."""
        return f"{self._inner(name)}.2:{PORT}" if name in self._hidden else f"{self.address(name)}:{PORT}"

    def shut(self, name: str) -> None:
        """Drop the answers to incoming connections of *name*; outgoing connections work."""
        _ip("-n", self._namespace(name), "rule", "add", "ipproto", "tcp", "sport", str(PORT), "blackhole")

    def pull(self, name: str) -> None:
        """Pull the cable of *name* out of the switch."""
        _ip("-n", self._switch, "link", "set", f"port{self._numbers[name]}", "down")

    def plug(self, name: str) -> None:
        """Plug the cable of *name* in again."""
        _ip("-n", self._switch, "link", "set", f"port{self._numbers[name]}", "up")

    def drop(self, sender: str, receiver: str) -> None:
        """Drop all packets from *sender* to *receiver*; the other direction works."""
        _ip("-n", self._namespace(sender), "route", "replace", "blackhole", f"{self.address(receiver)}/32")

    def carry(self, sender: str, receiver: str) -> None:
        """Deliver packets from *sender* to *receiver* again."""
        _ip("-n", self._namespace(sender), "route", "del", "blackhole", f"{self.address(receiver)}/32")

    def reset(self, name: str) -> None:
        """Reset all TCP connections of *name*."""
        _run(*self.inside(name), "ss", "--kill", "--tcp", "state", "established")

    def drop_incoming(self, name: str) -> None:
        """Drop every packet that would open a connection to *name*, as a laptop's firewall does."""
        _run(*self.inside(name), "iptables", "-A", "INPUT", "-p", "tcp", "--syn", "-j", "DROP")

    def reject_incoming(self, name: str) -> None:
        """Reject every packet that would open a connection to *name*, as the firewall of Fedora does."""
        reject = ("-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
        _run(*self.inside(name), "iptables", "-A", "INPUT", "-p", "tcp", "--syn", *reject)

    def readdress(self, name: str, host: int) -> None:
        """Give *name* the address that ends in *host* in place of its own, as DHCP may do."""
        namespace = self._namespace(name)
        _ip("-n", namespace, "addr", "del", f"{self.address(name)}/24", "dev", "cable")
        self._numbers[name] = host
        _ip("-n", namespace, "addr", "add", f"{self.address(name)}/24", "dev", "cable")

    def block_mdns(self, name: str) -> None:
        """Drop all packets of mDNS from and to *name*, as some firewalls and networks do."""
        for program in ("iptables", "ip6tables"):
            for chain in ("INPUT", "OUTPUT"):
                _run(*self.inside(name), program, "-A", chain, "-p", "udp", "--dport", "5353", "-j", "DROP")

    def link_local(self, name: str) -> str:
        """Return the link-local IPv6 address of *name*, as another device writes it."""
        words = (*self.inside(name), "ip", "-6", "-o", "address", "show", "dev", "cable", "scope", "link")
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return f"{shown.split()[3].partition('/')[0]}%cable"

    def block(self, one: str, other: str) -> None:
        """Drop all packets between *one* and *other*."""
        for here, there in ((one, other), (other, one)):
            _run(*self.inside(here), "iptables", "-A", "INPUT", "-s", self.address(there), "-j", "DROP")
            _run(*self.inside(here), "iptables", "-A", "OUTPUT", "-d", self.address(there), "-j", "DROP")

    def lose_large_packets(self) -> None:
        """Let the switch drop all packets that fill an Ethernet frame, without telling the sender."""
        for number in self._numbers.values():
            _ip("-n", self._switch, "link", "set", f"port{number}", "mtu", "900")

    def lay(self) -> None:
        """Create all namespaces, cables and routers."""
        self._lay_switch(self._switch)
        if self._masked:
            self._lay_home()
        for name, number in self._numbers.items():
            namespace = self._namespace(name)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            if name in self._hidden:
                namespace = self._lay_router(name)
            switch = self._home if name in self._masked else self._switch
            self._connect(namespace, "cable", f"{self.address(name)}/24", switch, f"port{number}")
            if name in self._masked:
                _ip("-n", namespace, "route", "add", "default", "via", f"{HOME}.{ROUTER}")

    def remove(self) -> None:
        """Remove everything that exists; cables are removed with their namespaces."""
        for router in self._routers:
            router.kill()
            router.wait()
        routers = [f"{name}-router" for name in self._hidden]
        devices = map(self._namespace, [*self._numbers, *routers])
        for namespace in (*devices, self._switch, *((self._home, self._router) if self._masked else ())):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "del", namespace)

    def _lay_switch(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "add", "bridge", "type", "bridge")
        _ip("-n", namespace, "link", "set", "bridge", "up")

    def _lay_home(self) -> None:
        """Lay the switch of the masked devices, and the router between the two switches."""
        self._lay_switch(self._home)
        _ip("netns", "add", self._router)
        self._connect(self._router, "outside", f"{SUBNET}.{ROUTER}/24", self._switch, f"port{ROUTER}")
        self._connect(self._router, "inside", f"{HOME}.{ROUTER}/24", self._home, f"port{ROUTER}")
        inside = ("ip", "netns", "exec", self._router)
        _run(*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        _run(*inside, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "outside", "-j", "MASQUERADE")

    def _connect(self, namespace: str, link: str, address: str, switch: str, port: str) -> None:
        """Put a cable with *address* between *namespace* and *port* of *switch*."""
        self._lay_cable(namespace, link, switch, port)
        _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", namespace, "addr", "add", address, "dev", link)
        _ip("-n", namespace, "link", "set", link, "up")

    def _lay_router(self, name: str) -> str:
        """Put a router between device *name* and the switch; return the router's namespace."""
        device, router = self._namespace(name), self._namespace(f"{name}-router")
        _ip("netns", "add", router)
        self._lay_cable(router, "inside", device, "cable")
        for namespace, link, host in ((router, "inside", 1), (device, "cable", 2)):
            _ip("-n", namespace, "addr", "add", f"{self._inner(name)}.{host}/24", "dev", link)
            _ip("-n", namespace, "link", "set", link, "up")
        return router

    def start_routers(self) -> None:
        """Start the routers."""
        for name in self._hidden:
            pairs = [
                f"{self._inner(name)}.1:{PORT + number}={self.address(other)}:{PORT}"
                for other, number in self._numbers.items()
                if other != name
            ]
            inside = ("ip", "netns", "exec", self._namespace(f"{name}-router"))
            program = (sys.executable, "-P", "-m", "tests.support.forwarder")
            self._routers.append(
                subprocess.Popen([*inside, *program, *pairs], env={**os.environ, "PYTHONPATH": str(ROOT)})
            )

    def _lay_cable(self, here: str, name: str, there: str, other: str) -> None:
        _ip("link", "add", name, "netns", here, "type", "veth", "peer", "name", other, "netns", there)

    def _inner(self, name: str) -> str:
        """Return the network behind the router of *name*."""
        return f"10.204.{self._numbers[name]}"

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"


@contextlib.contextmanager
def wires(*names: str, hidden: Sequence[str] = (), masked: Sequence[str] = ()) -> Iterator[Wires]:
    """Create the network of *names*, and remove it afterwards; skip the test where that is not permitted.

    Each device in *hidden* is behind its own router, which translates its address. Those in *masked* are
    behind one router, which masquerades them.
    """
    if shutil.which("ip") is None:
        pytest.skip("there is no 'ip' command (iproute2) to make network namespaces with")
    laid = Wires(names, hidden, masked)
    try:
        try:
            laid.lay()
            laid.start_routers()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        except FileNotFoundError as error:
            pytest.skip(f"there is no '{error.filename}' command")
        yield laid
    finally:
        laid.remove()


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
