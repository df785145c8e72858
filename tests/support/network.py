"""A bad network between real nodes: every connection of a fleet passes through a proxy that can be told to fail.

Each node listens on 127.0.0.2, at the port at which its proxy listens on 127.0.0.1. Nodes dial from 127.0.0.1,
so all that peers ever learn of a node's address, by being told or by looking, is its proxy: nobody gets around
it. Which node has dialled is asked of the operating system, so each pair has a `Way` for each direction, and
the nodes are the product as it is. Linux only: other systems have one loopback address.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial

import psutil
import pytest

from p2pfl import events
from tests.support.processes import NODE, Fleet, Process
from tests.support.proxy import Proxy, Way, Ways

HOST = "127.0.0.2"

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="needs a second loopback address, which only Linux has by itself"
)


class Network:
    """The nodes *names* of a fleet, and the ways between them."""

    def __init__(self, fleet: Fleet, names: Sequence[str]) -> None:
        self.fleet = fleet
        self.names = tuple(names)
        self.nodes: dict[str, Process] = {}
        """The latest start of each."""
        self.proxies = {name: Proxy(0, HOST, partial(self._ways_to, name)) for name in names}
        self._ways = {(one, other): Way() for one in names for other in names if one != other}
        self._commands: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {}

    async def open(self) -> None:
        for proxy in self.proxies.values():
            await proxy.start()
            proxy.retarget(proxy.port)

    async def close(self) -> None:
        for proxy in self.proxies.values():
            await proxy.close()

    # --- nodes ----------------------------------------------------------------------------------------------

    def start(self, name: str, *options: str, program: Sequence[str] = NODE) -> Process:
        """Start *name*, for the first time or with other options; do not wait."""
        self._commands[name] = (options, program)
        return self.again(name)

    def again(self, name: str) -> Process:
        """Start *name* with the same command as before; do not wait."""
        options, program = self._commands[name]
        others = ",".join(proxy.address for other, proxy in self.proxies.items() if other != name)
        places = (f"--listen={HOST}:{self.proxies[name].port}", f"--peers={others}")
        self.nodes[name] = self.fleet.start_unheard(name, *places, *options, program=program)
        return self.nodes[name]

    async def start_all(self, *options: str, program: Sequence[str] = NODE) -> list[Process]:
        """Start all nodes with the same options, and wait until they listen."""
        started = [self.start(name, *options, program=program) for name in self.names]
        for process in started:
            await process.until(events.Started)
        return started

    # --- faults ---------------------------------------------------------------------------------------------

    def way(self, sender: str, receiver: str) -> Way:
        """Return the way from *sender* to *receiver*."""
        return self._ways[sender, receiver]

    def between(self, names: Collection[str]) -> list[Way]:
        """Return the ways, in both directions, between *names* and all others."""
        return [way for (one, other), way in self._ways.items() if (one in names) != (other in names)]

    def cut_off(self, *names: str) -> None:
        """Pull the cable between *names* and the others: nothing passes, and nobody is told."""
        for way in self.between(names):
            way.stall()

    def heal(self) -> None:
        """Let everything pass again."""
        for way in self._ways.values():
            way.flow()

    def _ways_to(self, target: str, dialler: int) -> Ways:
        """Return the ways of the connection from port *dialler* to the proxy of *target*."""
        ends = (dialler, self.proxies[target].port)
        for name, process in self.nodes.items():
            if name != target and ends in _connections(process.pid):
                return self.way(name, target), self.way(target, name)
        raise ConnectionResetError("who has dialled is gone already")


def _connections(pid: int) -> set[tuple[int, int]]:
    """Return the own and the remote port of each connection that process *pid* has."""
    try:
        found = psutil.Process(pid).net_connections("tcp4")
    except psutil.Error:
        return set()
    return {(one.laddr.port, one.raddr.port) for one in found if one.raddr}


@contextlib.asynccontextmanager
async def network(fleet: Fleet, *names: str) -> AsyncIterator[Network]:
    """Open a network for the nodes *names* of *fleet*."""
    opened = Network(fleet, names)
    try:
        await opened.open()
        yield opened
    finally:
        await opened.close()
