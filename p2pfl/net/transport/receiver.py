"""Receives bytes where the caller wants them, without the copies an asyncio stream makes.

Either they fill a buffer of the caller's, or each piece is handed on as it comes, through one small buffer
that stays in the processor's cache. Nothing is read from the connection but what was asked for: while nobody
waits in `fill` or `pour`, reading is paused, and TCP holds the sender back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from p2pfl.errors import P2pflError
from p2pfl.net.transport.traffic import Meter


class Receiver(asyncio.BufferedProtocol):
    """The protocol of a connection that is read with `fill` and `pour`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._target: _Destination = _Filling(memoryview(bytearray(1)))
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
        await self._receive(_Filling(view))

    async def pour(self, view: memoryview, count: int, sink: Callable[[memoryview], None]) -> None:
        """Return once *sink* was given the next *count* bytes, at least one, piece by piece.

        The pieces lie in *view*, each where the one before was: *sink* keeps none. The event loop calls it as
        soon as a piece is there, so *view* may serve several receivers.

        Raises:
            OSError: the connection ended before.
            P2pflError: *sink* raised it; no more is read.
        """
        await self._receive(_Pouring(view, count, sink))

    def give_up(self, error: Exception) -> None:
        """Raise *error* where somebody waits for bytes; do nothing where nobody does."""
        if self._waiting is not None:
            self._stop(error)

    async def _receive(self, target: _Destination) -> None:
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
            self._transport.pause_reading()  # it may have been cancelled

    def _stop(self, error: Exception | None = None) -> None:
        """Read no more, and wake the caller."""
        assert self._transport is not None, "bytes come from a connection"
        self._transport.pause_reading()
        if self._waiting is None or self._waiting.done():
            return
        if error is not None:
            self._waiting.set_exception(error)
        else:
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TLS transport; read nothing yet."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next bytes go."""
        return self._target.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Count what arrived; wake the caller when it has all."""
        self.meter.received += nbytes
        try:
            is_complete = self._target.took(nbytes)
        except P2pflError as error:
            self._stop(error)
        else:
            if is_complete:
                self._stop()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail whoever waits."""
        self._error = error or ConnectionResetError("the other side closed the connection in the middle")
        self.give_up(self._error)


class _Destination(Protocol):
    """Where bytes go that were asked for."""

    def room(self) -> memoryview:
        """Return where the next bytes go, no longer than what is missing."""

    def took(self, count: int) -> bool:
        """Take the first *count* bytes of the room; return whether that was all."""


class _Filling:
    """Bytes that stay in a buffer."""

    def __init__(self, view: memoryview) -> None:
        self._rest = view

    def room(self) -> memoryview:
        return self._rest

    def took(self, count: int) -> bool:
        self._rest = self._rest[count:]
        return not self._rest


class _Pouring:
    """Bytes that pass through a buffer."""

    def __init__(self, view: memoryview, count: int, sink: Callable[[memoryview], None]) -> None:
        self._view = view
        self._missing = count
        self._sink = sink

    def room(self) -> memoryview:
        return self._view[: self._missing]

    def took(self, count: int) -> bool:
        self._missing -= count
        self._sink(self._view[:count])
        return not self._missing
