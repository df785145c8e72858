"""A bad network between real nodes: every connection of a fleet passes through a faulty proxy.

Each node listens on 127.0.0.2, at the port at which its proxy listens on 127.0.0.1. Nodes dial from 127.0.0.1,
so peers learn only the address of a node's proxy, and no connection bypasses it. The operating system tells which
node has dialled, so each pair has a `Channel` for each direction, and the nodes run unmodified. Linux
only: other systems have one loopback address.
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
from tests.support.proxy import Channel, Channels, Proxy

HOST = "127.0.0.2"

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="needs a second loopback address, which only Linux has by itself"
)


class Network:
    """The nodes *names* of a fleet, and the channels between them."""

    def __init__(self, fleet: Fleet, names: Sequence[str]) -> None:
        self.fleet = fleet
        self.names = tuple(names)
        self.nodes: dict[str, Process] = {}
        """The last process of each node."""
        self.proxies = {name: Proxy(0, HOST, partial(self._channels_to, name)) for name in names}
        self._channels = {(one, other): Channel() for one in names for other in names if one != other}
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

    def channel(self, sender: str, receiver: str) -> Channel:
        """Return the channel from *sender* to *receiver*."""
        return self._channels[sender, receiver]

    def between(self, names: Collection[str]) -> list[Channel]:
        """Return the channels, in both directions, between *names* and all others."""
        return [
            channel for (one, other), channel in self._channels.items() if (one in names) != (other in names)
        ]

    def cut_off(self, *names: str) -> None:
        """Stall all channels between *names* and the others, as a pulled cable does."""
        for channel in self.between(names):
            channel.stall()

    def heal(self) -> None:
        """Let all channels forward again."""
        for channel in self._channels.values():
            channel.flow()

    def _channels_to(self, target: str, dialler: int) -> Channels:
        """Return the channels of the connection from port *dialler* to the proxy of *target*."""
        ends = (dialler, self.proxies[target].port)
        for name, process in self.nodes.items():
            if name != target and ends in _connections(process.pid):
                return self.channel(name, target), self.channel(target, name)
        raise ConnectionResetError("the dialling process is gone already")


def _connections(pid: int) -> set[tuple[int, int]]:
    """Return the local and the remote port of each connection of process *pid*."""
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
