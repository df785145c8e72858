"""Reads and writes length-prefixed frames on a TLS connection.

A handshake or a bulk connection exchanges few frames and awaits each one. A link exchanges many, so it sets a
`StreamHandler` that is called back: waking a task for each frame cost more than the frame itself.

`finish` closes a connection so that its last frame (a REFUSAL, a BYE) arrives. A socket that is closed with
unread bytes sends a reset, which may destroy that frame. So `finish` sends TLS's close alert and waits, for a
bounded time, until the other side has closed too.
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
"""Reading pauses when more than twice as many bytes are buffered."""

FINISH_SECONDS = 1.0
"""How long `finish` waits for the other side to close."""


class StreamHandler(Protocol):
    """Callbacks for the events of a connection. The event loop calls them, so they must not raise."""

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""

    def writing_resumed(self) -> None:
        """Continue writing: the transport's buffer has room again."""

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end: *error*, or None if the other side closed. It may be called twice."""


class StreamProtocol(asyncio.Protocol):
    """The asyncio protocol under a `FrameStream`.

    Bytes that arrived before the connection broke can still be read, such as a REFUSAL before a reset:
    asyncio's own stream reader would drop them.
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
        self._handler: StreamHandler | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the TLS transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass *data* to the handler, or buffer it; pause reading when the buffer is large."""
        if self._handler is not None:
            self._handler.data_received(data)
            return
        self._received += data
        if len(self._received) > 2 * READ_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        """Note that the other side has closed."""
        self._ended = True
        self._changed.set()
        if self._handler is not None:
            self._handler.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Wake all waiters."""
        self._ended = True
        self._error = error
        self._changed.set()
        self._writable.set()
        self.closed.set()
        if self._handler is not None:
            self._handler.connection_lost(error)

    def pause_writing(self) -> None:
        """Make writers wait: the transport's buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers continue."""
        self._writable.set()
        if self._handler is not None:
            self._handler.writing_resumed()

    def is_full(self) -> bool:
        """Whether the transport's buffer is full."""
        return not self._writable.is_set()

    def set_handler(self, handler: StreamHandler) -> None:
        """Pass buffered and all later bytes to *handler*; `read` may not be called any more."""
        self._handler = handler
        handler.data_received(self._take())
        if self._ended:
            handler.connection_lost(self._error)

    async def read(self) -> bytes:
        """Return the received bytes, b"" at the end.

        Raises:
            OSError: the connection broke, and all bytes received before have been read.
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
        """Return the buffered bytes, and resume reading."""
        data = bytes(self._received)
        self._received.clear()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def is_exhausted(self) -> bool:
        """Whether all received bytes were read, and more may arrive."""
        return not self._received and not self._ended

    async def drain(self) -> None:
        """Wait until the transport takes more bytes.

        Raises:
            OSError: the connection is closed.
        """
        await self._writable.wait()
        if self.closed.is_set():
            raise self._error or ConnectionResetError("the connection is closed")


class FrameStream:
    """Reads and writes frames on a connection after its TLS handshake."""

    def __init__(self, transport: asyncio.Transport, protocol: StreamProtocol, max_frame_bytes: int) -> None:
        self.transport = transport
        self._protocol = protocol
        self._max_frame_bytes = max_frame_bytes
        self._decoder = FrameDecoder(max_frame_bytes)
        self._bodies: deque[bytes] = deque()
        self.meter = Meter()
        self.heard_at = asyncio.get_running_loop().time()
        """When the last bytes arrived, on the event loop's clock."""

    def encode(self, frame: ControlFrame) -> bytes:
        """Return the encoded *frame*.

        Raises:
            FrameError: it is longer than the limit.
        """
        return encode_frame(encode(frame), self._max_frame_bytes)

    async def send(self, frame: ControlFrame) -> None:
        """Send *frame* and wait until the transport takes more bytes.

        Raises:
            OSError: the connection broke.
        """
        await self.write(self.encode(frame))

    async def write(self, data: bytes) -> None:
        """Send *data* (whole frames, or bytes of a blob) and wait until the transport takes more bytes.

        Raises:
            OSError: the connection broke.
        """
        self.put(data)
        await self._protocol.drain()

    def put(self, data: bytes) -> None:
        """Send *data* without waiting. Check `is_full` before sending much."""
        self.transport.write(data)
        self.meter.sent += len(data)

    def is_full(self) -> bool:
        """Whether the transport's buffer is full."""
        return self._protocol.is_full()

    async def next_body(self) -> bytes | None:
        """Return the body of the next frame, None after the other side has closed.

        Raises:
            FrameError: the bytes are not a frame, or end inside one.
            OSError: the connection broke.
        """
        if not self._bodies:
            self._bodies.extend(self._decoder.feed())  # raises for an invalid frame behind the last valid one
        while not self._bodies:
            data = await self._protocol.read()
            if not data:
                self._decoder.end()
                return None
            self._heard(data)
            self._bodies.extend(self._decoder.feed(data))
        return self._bodies.popleft()

    async def next(self) -> ControlFrame | None:
        """Return the next frame, None after the other side has closed.

        Raises:
            FrameError: the bytes are not a frame, or end inside one.
            ProtocolError: the frame cannot be decoded.
            OSError: the connection broke.
        """
        body = await self.next_body()
        return None if body is None else decode(body)

    def set_handler(self, handler: StreamHandler) -> None:
        """Pass all events of the connection to *handler*, which passes received bytes to `frames`.

        `next` and `next_body` may not be called any more.
        """
        self._protocol.set_handler(handler)

    def release(self, protocol: asyncio.BufferedProtocol) -> None:
        """Let *protocol* read the connection from now on, in place of this stream.

        Raises:
            FrameError: unread bytes have arrived, or the other side has closed.
        """
        if self._bodies or self._decoder.is_inside or not self._protocol.is_exhausted:
            raise FrameError("it did not wait for its turn, or closed")
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)

    def frames(self, data: bytes) -> Iterator[ControlFrame]:
        """Yield the frames that *data*, the next received bytes, completes.

        Raises:
            FrameError: the bytes are not a frame.
            ProtocolError: a frame cannot be decoded.
        """
        self._heard(data)
        while True:
            while self._bodies:
                yield decode(self._bodies.popleft())
            self._bodies.extend(self._decoder.feed(data))
            if not self._bodies:
                return
            data = b""  # the next call raises for an invalid frame behind the last valid one

    def end(self) -> None:
        """Check that the received bytes end with a whole frame.

        Raises:
            FrameError: they end inside a frame.
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
        """Send queued bytes and close; abort if the other side has not closed within *seconds*."""
        self.transport.close()
        try:
            async with asyncio.timeout(seconds):
                await self._protocol.closed.wait()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Close at once; queued bytes are lost."""
        self.transport.abort()
