"""Receives bytes directly into a buffer of the caller, without the copies of an asyncio stream.

`read_into` fills one buffer. `read_pieces` passes each piece to a callback, through one small buffer that
stays in the processor's cache. Reading is paused between calls, so TCP flow control slows the sender down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from p2pfl.errors import P2pflError
from p2pfl.net.transport.traffic import Meter


class Receiver(asyncio.BufferedProtocol):
    """The protocol of a connection that is read with `read_into` and `read_pieces`."""

    def __init__(self, meter: Meter | None = None) -> None:
        """Receive nothing yet; count received bytes in *meter*, by default in a new one."""
        self._transport: asyncio.Transport | None = None
        self._target: _Target = _BufferTarget(memoryview(bytearray(1)))
        self._waiting: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.meter = meter or Meter()

    @property
    def is_waiting(self) -> bool:
        """Whether a caller waits for bytes from the other side."""
        return self._waiting is not None

    async def read_into(self, view: memoryview) -> None:
        """Fill *view*, which is not empty, with the next bytes.

        Raises:
            OSError: the connection ended first.
        """
        await self._receive(_BufferTarget(view))

    async def read_pieces(self, view: memoryview, count: int, sink: Callable[[memoryview], None]) -> None:
        """Pass the next *count* bytes, at least one, to *sink* in pieces.

        Each piece overwrites the previous one in *view*, so *sink* must not keep it. The event loop calls
        *sink* as soon as a piece has arrived, so several receivers may share *view*.

        Raises:
            OSError: the connection ended first.
            P2pflError: *sink* raised it; reading stops.
        """
        await self._receive(_CallbackTarget(view, count, sink))

    def fail(self, error: Exception) -> None:
        """Raise *error* in the caller that waits for bytes, if there is one."""
        if self._waiting is not None:
            self._stop(error)

    async def _receive(self, target: _Target) -> None:
        if self._error is not None:
            raise self._error
        assert self._transport is not None, "the connection is made before it is read"
        self._target = target
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            await self._waiting
        finally:
            self._waiting = None
            self._transport.pause_reading()  # the caller may have been cancelled

    def _stop(self, error: Exception | None = None) -> None:
        """Pause reading, and wake the caller."""
        assert self._transport is not None, "bytes come from a connection"
        self._transport.pause_reading()
        if self._waiting is None or self._waiting.done():
            return
        if error is not None:
            self._waiting.set_exception(error)
        else:
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the TLS transport; read nothing yet."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return the buffer for the next bytes."""
        return self._target.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Count the received bytes; wake the caller when its request is complete."""
        self.meter.received += nbytes
        try:
            is_complete = self._target.consume(nbytes)
        except P2pflError as error:
            self._stop(error)
        else:
            if is_complete:
                self._stop()

    def connection_lost(self, error: Exception | None) -> None:
        """Raise the error in the waiting caller."""
        self._error = error or ConnectionResetError("the other side closed the connection in the middle")
        self.fail(self._error)


class _Target(Protocol):
    """Where requested bytes are written."""

    def buffer(self) -> memoryview:
        """Return the buffer for the next bytes, at most as long as the missing bytes."""

    def consume(self, count: int) -> bool:
        """Consume the first *count* bytes of the buffer; return whether the request is complete."""


class _BufferTarget:
    """Keeps the bytes in the buffer of the caller."""

    def __init__(self, view: memoryview) -> None:
        self._rest = view

    def buffer(self) -> memoryview:
        return self._rest

    def consume(self, count: int) -> bool:
        self._rest = self._rest[count:]
        return not self._rest


class _CallbackTarget:
    """Passes the bytes to a callback."""

    def __init__(self, view: memoryview, count: int, sink: Callable[[memoryview], None]) -> None:
        self._view = view
        self._missing = count
        self._sink = sink

    def buffer(self) -> memoryview:
        return self._view[: self._missing]

    def consume(self, count: int) -> bool:
        self._missing -= count
        self._sink(self._view[:count])
        return not self._missing
