"""Frames over a TLS connection: what handshakes and links are written in.

Who exchanges few frames waits for each: a handshake, a bulk connection. A link, which lives from many, takes
the connection over and is called with what happens on it: to wake a task for each cost more than the frames.

The connection is closed with care. Closing a socket that holds unread bytes makes the kernel send a reset,
which may destroy the last words (a REFUSAL, a BYE) before they are read; so `finish` lets asyncio's TLS say
goodbye and waits, for a bounded time, until the other side has closed too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Protocol, cast

from p2pfl.errors import FrameError
from p2pfl.net.transport.traffic import Meter
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from p2pfl.wire.links import Refusal

READ_BYTES = 64 * 1024
"""Twice that is buffered before TCP holds the sender back."""

FINISH_SECONDS = 1.0
"""How long the other side may take to close after us."""


class Taker(Protocol):
    """Whoever took a connection over. The event loop calls it, so it must not raise."""

    def arrived(self, data: bytes) -> None:
        """Take what has arrived."""

    def may_write(self) -> None:
        """Go on after the connection was full."""

    def lost(self, error: Exception | None) -> None:
        """Know that no more will come: because of *error*, or the other side closed. It may be told twice."""


class StreamProtocol(asyncio.Protocol):
    """The protocol to hand to `p2pfl.net.transport.tls.secure` for a connection that becomes a `FrameStream`.

    asyncio's own stream reader forgets what has arrived when the connection then breaks. Here it can still be
    read: a REFUSAL, say, before the reset that followed it.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._taker: Taker | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TLS transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand *data* on, or keep it and hold the sender back when it is much."""
        if self._taker is not None:
            self._taker.arrived(data)
            return
        self._received += data
        if len(self._received) > 2 * READ_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._changed.set()
        if self._taker is not None:
            self._taker.lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Wake everybody who waits."""
        self._ended = True
        self._error = error
        self._changed.set()
        self._writable.set()
        self.closed.set()
        if self._taker is not None:
            self._taker.lost(error)

    def pause_writing(self) -> None:
        """Hold writers back until the socket has taken what is buffered."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()
        if self._taker is not None:
            self._taker.may_write()

    def is_full(self) -> bool:
        """Whether the socket has not taken yet what is buffered."""
        return not self._writable.is_set()

    def hand_over(self, taker: Taker) -> None:
        """Call *taker* from now on with what arrives, first with what has; nobody may `read` any more."""
        self._taker = taker
        taker.arrived(self._take())
        if self._ended:
            taker.lost(self._error)

    async def read(self) -> bytes:
        """Return what has arrived, b"" at the end.

        Raises:
            OSError: the connection broke, and everything that came before has been read.
        """
        while not self._received:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        return self._take()

    def _take(self) -> bytes:
        """Return what is kept, and let the sender go on."""
        data = bytes(self._received)
        self._received.clear()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def is_exhausted(self) -> bool:
        """Whether everything that arrived was read, and more may come."""
        return not self._received and not self._ended

    async def drain(self) -> None:
        """Wait until more may be written.

        Raises:
            OSError: the connection is closed.
        """
        await self._writable.wait()
        if self.closed.is_set():
            raise self._error or ConnectionResetError("the connection is closed")


class FrameStream:
    """Reads and writes frames on a connection whose TLS handshake is done."""

    def __init__(self, transport: asyncio.Transport, protocol: StreamProtocol, max_frame_bytes: int) -> None:
        self.transport = transport
        self._protocol = protocol
        self._max_frame_bytes = max_frame_bytes
        self._decoder = FrameDecoder(max_frame_bytes)
        self._bodies: deque[bytes] = deque()
        self.meter = Meter()
        self.heard_at = asyncio.get_running_loop().time()
        """When the last byte arrived, on the event loop's clock."""

    def encode(self, frame: ControlFrame) -> bytes:
        """Return the bytes of *frame* as this stream carries it.

        Raises:
            FrameError: it is longer than a frame may be.
        """
        return encode_frame(encode(frame), self._max_frame_bytes)

    async def send(self, frame: ControlFrame) -> None:
        """Send *frame* and wait until the connection takes more.

        Raises:
            OSError: the connection broke.
        """
        await self.write(self.encode(frame))

    async def write(self, data: bytes) -> None:
        """Send *data* (whole frames, or a blob's bytes) and wait until the connection takes more.

        Raises:
            OSError: the connection broke.
        """
        self.put(data)
        await self._protocol.drain()

    def put(self, data: bytes) -> None:
        """Send *data* without waiting; who has much to send looks at `is_full` before."""
        self.transport.write(data)
        self.meter.sent += len(data)

    def is_full(self) -> bool:
        """Whether the connection should not be given more yet."""
        return self._protocol.is_full()

    async def next_body(self) -> bytes | None:
        """Return the next frame's body, None once the other side has closed.

        Raises:
            FrameError: bytes that are no frame, or an end inside one.
            OSError: the connection broke.
        """
        if not self._bodies:
            self._bodies.extend(self._decoder.feed())  # a bad frame behind the last good one shows now
        while not self._bodies:
            data = await self._protocol.read()
            if not data:
                self._decoder.end()
                return None
            self._heard(data)
            self._bodies.extend(self._decoder.feed(data))
        return self._bodies.popleft()

    async def next(self) -> ControlFrame | None:
        """Return the next frame, None once the other side has closed.

        Raises:
            FrameError: bytes that are no frame, or an end inside one.
            ProtocolError: a frame that cannot be understood.
            OSError: the connection broke.
        """
        body = await self.next_body()
        return None if body is None else decode(body)

    def hand_over(self, taker: Taker) -> None:
        """Call *taker* from now on with what happens, which gives what arrives to `frames`.

        Nobody may wait in `next` or `next_body` any more.
        """
        self._protocol.hand_over(taker)

    def release(self, protocol: asyncio.BufferedProtocol) -> None:
        """Give the connection to *protocol*, which reads what comes from now on instead of this stream.

        Raises:
            FrameError: something has arrived that was not read, or nothing more will come.
        """
        if self._bodies or self._decoder.is_inside or not self._protocol.is_exhausted:
            raise FrameError("it did not wait for its turn, or closed")
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)

    def frames(self, data: bytes) -> Iterator[ControlFrame]:
        """Yield the frames that *data*, the next bytes that arrived, makes complete.

        Raises:
            FrameError: bytes that are no frame.
            ProtocolError: a frame that cannot be understood.
        """
        self._heard(data)
        while True:
            while self._bodies:
                yield decode(self._bodies.popleft())
            self._bodies.extend(self._decoder.feed(data))
            if not self._bodies:
                return
            data = b""  # a bad frame behind the last good one shows with the next call

    def end(self) -> None:
        """Say that nothing more will arrive.

        Raises:
            FrameError: an end inside a frame.
        """
        self._decoder.end()

    def _heard(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self.meter.received += len(data)

    async def refuse(self, refusal: Refusal) -> None:
        """Send *refusal* and close the connection."""
        with contextlib.suppress(OSError):  # the connection may be gone; the peer is refused all the same
            await self.send(refusal)
        await self.finish()

    async def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Send what is queued and close; after *seconds* whether the other side has closed too or not."""
        self.transport.close()
        try:
            async with asyncio.timeout(seconds):
                await self._protocol.closed.wait()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self.transport.abort()
