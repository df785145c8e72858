"""A TCP proxy that can cut, stall, slow, corrupt or count what passes through it: a bad network for tests.

TCP ends at the proxy on both sides, so a stalled direction is what a dead cable is to the two ends: nothing
comes, nobody is told. What is wrong with a direction is a `Way`, and can be changed while bytes flow.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

READ_BYTES = 16 * 1024

READ_AHEAD = 64
"""Pieces under way in one direction of a connection: a megabyte, whatever the latency."""


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Way:
    """One direction, of all connections that use it, and what is wrong with it."""

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    """Of all connections together; None: as fast as it goes."""
    cut_after: int | None = None
    """Bytes after which a connection made from now on is cut; None lets all pass."""
    stall_after: int | None = None
    """Bytes after which a connection made from now on passes nothing more, but stays open."""
    corruptions: int = 0
    """Pieces of `corrupt_from` bytes or more in which one byte is still to be flipped."""
    corrupt_from: int = 1
    passed: int = 0
    """Bytes that went this way so far."""
    _flowing: asyncio.Event = field(default_factory=_set)
    _free_at: float = 0.0

    def stall(self) -> None:
        """Pass nothing on from now on; connections stay open, new ones are accepted."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again; what was held back goes first, as TCP would repeat it."""
        self._flowing.set()

    async def flows(self) -> None:
        """Wait until something may pass."""
        await self._flowing.wait()

    def due(self, count: int, now: float) -> float:
        """Return when *count* bytes sent *now* arrive, in seconds of the loop's clock."""
        if self.bytes_per_second is not None:
            self._free_at = max(self._free_at, now) + count / self.bytes_per_second
            now = self._free_at
        return now + self.latency_seconds

    def spoil(self, data: bytes) -> bytes:
        """Return *data*, one bit of it flipped if a corruption is still to be made."""
        if not self.corruptions or len(data) < self.corrupt_from:
            return data
        self.corruptions -= 1
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


Ways = tuple[Way, Way]
"""Towards the target, and back."""


class Proxy:
    """Forwards connections to a port on loopback."""

    def __init__(
        self, target_port: int, target_host: str = "127.0.0.1", ways_of: Callable[[int], Ways] | None = None
    ) -> None:
        """Open nothing yet.

        *ways_of* gets the dialler's port and returns the ways of that connection, or raises OSError to end
        it; without it all connections share `towards` and `back`.
        """
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self.port = 0
        """Where it listens, from `start` on."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._opened: list[list[asyncio.StreamWriter]] = []
        """The two sides of every connection so far."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.towards, self.back = Way(), Way()
        self._ways_of = ways_of or (lambda _: (self.towards, self.back))
        self.open: set[int] = set()
        """Numbers of the connections open now, counted from 0 in the order made."""

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return len(self._opened)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def retarget(self, port: int) -> None:
        """Forward connections from now on to *port*; before that they went wherever the proxy was made
        for."""
        self._target = (self._target[0], port)

    def cut(self, number: int) -> None:
        """Cut connection *number* with a reset, as a router that has lost its tables does."""
        for writer in self._opened[number]:
            _reset(writer)

    def cut_all(self) -> None:
        """Cut every open connection."""
        for number in list(self.open):
            self.cut(number)

    def stall(self) -> None:
        """Pass nothing on from now on, but leave connections open: a half-open network."""
        self.towards.stall()
        self.back.stall()

    def flow(self) -> None:
        """Pass on again."""
        self.towards.flow()
        self.back.flow()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self.connections
        self.open.add(number)
        self._writers.add(writer)
        opened = [writer]
        self._opened.append(opened)
        try:
            towards, back = self._ways_of(writer.get_extra_info("peername")[1])
            onward_reader, onward = await asyncio.open_connection(*self._target)
            self._writers.add(onward)
            opened.append(onward)
            async with asyncio.TaskGroup() as pumps:
                _pump(pumps, reader, onward, towards)
                _pump(pumps, onward_reader, writer, back)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in opened:
                one.transport.abort()
                self._writers.discard(one)
            self.open.discard(number)
            self._tasks.discard(task)


def _pump(
    pumps: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
) -> None:
    """Pass on what *reader* gives, until its end or a cut."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(READ_AHEAD)
    pumps.create_task(_take(reader, pieces, way))
    pumps.create_task(_deliver(pieces, writer, way))


async def _take(reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]], way: Way) -> None:
    now = asyncio.get_running_loop().time
    cut_after, stall_after, passed = way.cut_after, way.stall_after, 0
    while data := await reader.read(READ_BYTES):
        passed += len(data)
        if cut_after is not None and passed > cut_after:
            raise ConnectionResetError("the proxy cuts here")
        if stall_after is not None and passed > stall_after:
            await asyncio.Event().wait()
        await pieces.put((way.due(len(data), now()), way.spoil(data)))
    await pieces.put((now(), b""))


async def _deliver(
    pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way
) -> None:
    while True:
        due, data = await pieces.get()
        await way.flows()
        if (wait := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
            await way.flows()
        if not data:
            writer.close()
            return
        way.passed += len(data)
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Open a proxy to *port* on loopback."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
