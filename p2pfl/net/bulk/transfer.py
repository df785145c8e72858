"""One transfer: a blob, or the rest of one, from one holder.

The bytes of a long blob arrive in one of two reused buffers while a thread hashes the other and writes it to
disk; those of a short one are written as they come, piece by piece. The length is known beforehand; a holder
that announces another one is refused before anything is stored.

A connection that has done its work rests a while, one for each holder, and is used again: where models are
small, TLS handshakes took more of a round than the bytes did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.connector import Reach
from p2pfl.net.bulk.dialler import BulkConnection
from p2pfl.net.bulk.holders import Holder
from p2pfl.net.bulk.request import Progress
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.traffic import Traffic
from p2pfl.store.blobs import QUICK_BYTES
from p2pfl.store.partial import PartialBlob
from p2pfl.text import one_line
from p2pfl.wire.blobs import (
    LENGTH_BYTES,
    MAX_BULK_FRAME_BYTES,
    REFUSED,
    BlobRequest,
    check_announced,
    decode_refusal,
    encode_request,
)
from p2pfl.wire.frames import HEADER_BYTES, FrameDecoder

QUICK_PIECE_BYTES = 128 * 1024
"""Decrypted, hashed and written at a time of a short blob: it passes through a processor's cache."""


class _StaleError(NetworkError):
    """A connection that rested was closed by the other side meanwhile."""


class HolderBusyError(NetworkError):
    """The holder serves as many transfers as it can; later it may serve this one."""


class Transfers:
    """Makes transfers with one node's credentials."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        traffic: Traffic,
        threads: Executor,
        reach: Reach,
    ) -> None:
        self._resting: dict[str, tuple[BulkConnection, asyncio.TimerHandle]] = {}
        """By node id; a connection that is in use is not here."""
        self._credentials = credentials
        self._settings = settings
        self._traffic = traffic
        self._threads = threads
        self._reach = reach
        self._quick_piece = memoryview(bytearray(QUICK_PIECE_BYTES))

    async def run(self, digest: str, holder: Holder, partial: PartialBlob, on_progress: Progress) -> None:
        """Pull what *partial* lacks of blob *digest* from *holder*; keep it when that breaks off.

        A connection to it is made unless one rests here.

        Raises:
            NetworkError: the holder cannot be reached, does not have the blob, is busy, or the transfer
            broke. PeerError: it sent something else than was asked for. DataDirectoryError: this device's
            disk refused.
        """
        rested = self._take(holder.node)
        if rested is not None:
            try:
                return await self._use(rested, digest, partial, on_progress)
            except _StaleError:
                pass  # it was closed while it rested: make another one
        connection = await self._reach.connect(holder)
        try:
            await self._use(connection, digest, partial, on_progress)
        except _StaleError as error:
            raise NetworkError(str(error)) from error

    def forget(self, node: str) -> None:
        """Close the connection to *node* that rests here, if there is one."""
        connection = self._take(node)
        if connection is not None:
            self._close(connection)

    def close(self) -> None:
        """Close all connections that rest here."""
        for node in list(self._resting):
            self.forget(node)

    def _take(self, node: str) -> BulkConnection | None:
        connection, timer = self._resting.pop(node, (None, None))
        if timer is not None:
            timer.cancel()
        return connection

    def _rest(self, connection: BulkConnection) -> None:
        """Let *connection* wait for the next blob of its holder; one is enough for each."""
        self.forget(connection.node)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._settings.blob_rest_seconds, self.forget, connection.node)
        self._resting[connection.node] = (connection, timer)

    def _close(self, connection: BulkConnection) -> None:
        connection.transport.abort()
        self._traffic.settle(connection.receiver.meter)

    async def _use(
        self, connection: BulkConnection, digest: str, partial: PartialBlob, on_progress: Progress
    ) -> None:
        """Pull over *connection*; let it rest afterwards if all went well, else close it.

        Raises:
            _StaleError: it broke before the first byte of an answer.
            NetworkError, PeerError, DataDirectoryError: see `run`.
        """
        receiver = connection.receiver
        before, is_whole = receiver.meter.received, False
        request = encode_request(BlobRequest(digest, partial.offset))
        connection.transport.write(request)
        receiver.meter.sent += len(request)
        try:
            with self._at_pace(receiver):
                await self._receive(receiver, partial, on_progress)
            is_whole = True
        except OSError as error:
            reason = explain(error, self._credentials, dialing=True)
            raise (_StaleError if receiver.meter.received == before else NetworkError)(reason) from error
        finally:
            if is_whole:
                self._rest(connection)
            else:
                self._close(connection)

    async def _receive(self, receiver: Receiver, partial: PartialBlob, on_progress: Progress) -> None:
        """Read the answer: a refusal, or the length and the bytes."""
        head = bytearray(LENGTH_BYTES)
        await receiver.fill(memoryview(head))
        announced = int.from_bytes(head, "big")
        if announced == REFUSED:
            raise await _refusal(receiver)
        check_announced(announced, partial.length)
        if partial.offset == partial.length:
            return
        if partial.length <= QUICK_BYTES:
            await self._receive_quickly(receiver, partial, on_progress)
        else:
            await self._receive_in_turns(receiver, partial, on_progress)

    async def _receive_quickly(self, receiver: Receiver, partial: PartialBlob, on_progress: Progress) -> None:
        """Write the bytes of a short blob as they come."""

        def keep(piece: memoryview) -> None:
            partial.write(piece)
            on_progress(partial.offset, partial.length)

        await receiver.pour(self._quick_piece, partial.length - partial.offset, keep)

    async def _receive_in_turns(
        self, receiver: Receiver, partial: PartialBlob, on_progress: Progress
    ) -> None:
        """Receive one piece of a long blob while a thread writes the one before."""
        loop = asyncio.get_running_loop()
        missing = partial.length - partial.offset
        size = min(self._settings.blob_chunk_bytes, missing)
        buffers = [memoryview(bytearray(size)) for _ in range(2)]
        writing: asyncio.Future[None] | None = None
        try:
            while missing:
                piece = buffers[0][: min(size, missing)]
                await receiver.fill(piece)
                if writing is not None:
                    await writing
                missing -= len(piece)
                on_progress(partial.length - missing, partial.length)
                writing = loop.run_in_executor(self._threads, partial.write, piece)
                buffers.reverse()
        finally:
            if writing is not None:
                await asyncio.wait([writing])  # its buffer and its file are let go only then
        if writing is not None:
            await writing

    @contextlib.contextmanager
    def _at_pace(self, receiver: Receiver) -> Iterator[None]:
        """Let whoever waits for *receiver* give up when less than the least rate arrives in an idle window.

        A stopped transfer is the slowest.

        Raises:
            NetworkError: that is what the waiting raises then.
        """
        loop = asyncio.get_running_loop()
        window = self._settings.blob_idle_seconds
        least = window * self._settings.blob_least_bytes_per_second
        timer: asyncio.TimerHandle

        def look(before: int) -> None:
            nonlocal timer
            if receiver.is_waiting and receiver.meter.received - before < least:
                receiver.give_up(NetworkError(f"less than {least:.0f} bytes came in {window:g} s"))
            timer = loop.call_later(window, look, receiver.meter.received)

        timer = loop.call_later(window, look, receiver.meter.received)
        try:
            yield
        finally:
            timer.cancel()


async def _refusal(receiver: Receiver) -> NetworkError:
    """Read a refusal; return it as an error."""
    head = bytearray(HEADER_BYTES)
    await receiver.fill(memoryview(head))
    decoder = FrameDecoder(MAX_BULK_FRAME_BYTES)
    decoder.feed(head)  # judges the length
    body = bytearray(int.from_bytes(head, "big"))
    await receiver.fill(memoryview(body))
    refusal = decode_refusal(bytes(body))
    kind = HolderBusyError if refusal.code == "busy" else NetworkError
    return kind(f"it refused: {one_line(refusal.reason)}")
