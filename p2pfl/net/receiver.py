"""Receives bytes into buffers of the caller's, without the copies an asyncio stream makes.

Nothing is read from the connection but what was asked for: while nobody waits in `fill`, reading is paused,
and TCP holds the sender back.
"""

from __future__ import annotations

import asyncio
from typing import cast

from p2pfl.net.traffic import Meter


class Receiver(asyncio.BufferedProtocol):
    """The protocol to hand to `p2pfl.net.tls.secure` for a connection that is read with `fill`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._view = memoryview(bytearray(1))
        self._filled = 0
        self._waiting: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.meter = Meter()

    @property
    def is_waiting(self) -> bool:
        """Whether it is the other side that holds things up."""
        return self._waiting is not None

    async def fill(self, view: memoryview) -> None:
        """Return once *view*, which is not empty, is full of the next bytes.

        Raises:
            OSError: the connection ended before.
        """
        if self._error is not None:
            raise self._error
        assert self._transport is not None, "the connection is made before it is read"
        self._view = view
        self._filled = 0
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TLS transport; read nothing yet."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return the rest of the view being filled."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what arrived; wake the caller when its view is full."""
        self._filled += nbytes
        self.meter.received += nbytes
        if self._filled == len(self._view):
            assert self._transport is not None, "bytes come from a connection"
            self._transport.pause_reading()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail whoever waits."""
        self._error = error or ConnectionResetError("the other side closed the connection in the middle")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self._error)
