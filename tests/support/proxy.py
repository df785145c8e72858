"""A TCP proxy that can cut, stall, slow, corrupt or count traffic: a bad network for tests.

TCP ends at the proxy on both sides, so a stalled direction looks like a dead cable to both ends: nothing
arrives, and no error. A `Channel` holds the faults of one direction, which a test may change at any time.
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
"""Pieces in transit in one direction of a connection: a megabyte, for any latency."""


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Channel:
    """One direction of all connections that use it, with its faults."""

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    """Of all connections together; None: unlimited."""
    cut_after: int | None = None
    """Bytes after which a new connection is cut; None: never."""
    stall_after: int | None = None
    """Bytes after which a new connection stalls but stays open; None: never."""
    corruptions: int = 0
    """How many more pieces of at least `corrupt_from` bytes get one flipped bit."""
    corrupt_from: int = 1
    passed: int = 0
    """Bytes forwarded so far."""
    _flowing: asyncio.Event = field(default_factory=_set)
    _free_at: float = 0.0

    def stall(self) -> None:
        """Stop forwarding; connections stay open, new ones are accepted."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again; held back bytes go first, as TCP would resend them."""
        self._flowing.set()

    async def flows(self) -> None:
        """Wait while the channel is stalled."""
        await self._flowing.wait()

    def due(self, count: int, now: float) -> float:
        """Return when *count* bytes sent *now* arrive, in seconds of the loop's clock."""
        if self.bytes_per_second is not None:
            self._free_at = max(self._free_at, now) + count / self.bytes_per_second
            now = self._free_at
        return now + self.latency_seconds

    def corrupt(self, data: bytes) -> bytes:
        """Return *data*, with one bit flipped if a corruption is pending."""
        if not self.corruptions or len(data) < self.corrupt_from:
            return data
        self.corruptions -= 1
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


Channels = tuple[Channel, Channel]
"""To the target, and back."""


class Proxy:
    """Forwards connections to a port on loopback."""

    def __init__(
        self,
        target_port: int,
        target_host: str = "127.0.0.1",
        channels_of: Callable[[int], Channels] | None = None,
    ) -> None:
        """Open nothing yet.

        *channels_of* maps the dialler's port to the channels of its connection, or raises OSError to end it;
        without it all connections share `towards` and `back`.
        """
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self.port = 0
        """The port on which it listens, after `start`."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._opened: list[list[asyncio.StreamWriter]] = []
        """The two sides of every connection."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.towards, self.back = Channel(), Channel()
        self._channels_of = channels_of or (lambda _: (self.towards, self.back))
        self.open: set[int] = set()
        """Indexes of the open connections, in the order in which they were made."""

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return len(self._opened)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def retarget(self, port: int) -> None:
        """Forward new connections to *port*."""
        self._target = (self._target[0], port)

    def cut(self, number: int) -> None:
        """Reset connection *number*, as a router does that has lost its tables."""
        for writer in self._opened[number]:
            _reset(writer)

    def cut_all(self) -> None:
        """Reset every open connection."""
        for number in list(self.open):
            self.cut(number)

    def stall(self) -> None:
        """Stop forwarding in both directions; connections stay half-open."""
        self.towards.stall()
        self.back.stall()

    def flow(self) -> None:
        """Forward again in both directions."""
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
            towards, back = self._channels_of(writer.get_extra_info("peername")[1])
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
    pumps: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, channel: Channel
) -> None:
    """Forward what *reader* receives, until its end or a cut."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(READ_AHEAD)
    pumps.create_task(_take(reader, pieces, channel))
    pumps.create_task(_deliver(pieces, writer, channel))


async def _take(
    reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]], channel: Channel
) -> None:
    now = asyncio.get_running_loop().time
    cut_after, stall_after, passed = channel.cut_after, channel.stall_after, 0
    while data := await reader.read(READ_BYTES):
        passed += len(data)
        if cut_after is not None and passed > cut_after:
            raise ConnectionResetError("the proxy cuts here")
        if stall_after is not None and passed > stall_after:
            await asyncio.Event().wait()
        await pieces.put((channel.due(len(data), now()), channel.corrupt(data)))
    await pieces.put((now(), b""))


async def _deliver(
    pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, channel: Channel
) -> None:
    while True:
        due, data = await pieces.get()
        await channel.flows()
        if (wait := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
            await channel.flows()
        if not data:
            writer.close()
            return
        channel.passed += len(data)
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
