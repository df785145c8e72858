"""Transfers one blob, or the rest of one, from one holder.

The bytes of a long blob arrive in one of two buffers while a thread hashes the other one and writes it to
disk. The bytes of a short blob are hashed and written as they arrive. The length is known in advance: if the
holder announces another one, nothing is stored.

An idle connection is kept for a while, one for each holder, and reused: for small models, TLS handshakes took
more of a round than the bytes did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.connector import HolderConnector
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
"""Of a short blob, decrypted, hashed and written at a time: it fits the processor's cache."""


class _StaleConnectionError(NetworkError):
    """The other side had closed an idle connection before it was reused."""


class HolderBusyError(NetworkError):
    """The holder serves as many transfers as it may; it may serve this one later."""


class Transfers:
    """Makes transfers with the credentials of one node."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        traffic: Traffic,
        threads: Executor,
        connector: HolderConnector,
    ) -> None:
        self._idle: dict[str, tuple[BulkConnection, asyncio.TimerHandle]] = {}
        """Idle connections by node id."""
        self._credentials = credentials
        self._settings = settings
        self._traffic = traffic
        self._threads = threads
        self._connector = connector
        self._quick_piece = memoryview(bytearray(QUICK_PIECE_BYTES))

    async def run(self, digest: str, holder: Holder, partial: PartialBlob, on_progress: Progress) -> None:
        """Pull the missing bytes of blob *digest* from *holder* into *partial*, which keeps them on failure.

        It uses an idle connection to the holder, or makes one.

        Raises:
            NetworkError: the holder cannot be reached, does not have the blob, is busy, or the transfer
            broke. PeerError: it sent something that was not requested. DataDirectoryError: the local disk
            failed.
        """
        idle = self._take(holder.node)
        if idle is not None:
            try:
                return await self._use(idle, digest, partial, on_progress)
            except _StaleConnectionError:
                pass  # the holder had closed it: make another one
        connection = await self._connector.connect(holder)
        try:
            await self._use(connection, digest, partial, on_progress)
        except _StaleConnectionError as error:
            raise NetworkError(str(error)) from error

    def forget(self, node: str) -> None:
        """Close the idle connection to *node*, if there is one."""
        connection = self._take(node)
        if connection is not None:
            self._close(connection)

    def close(self) -> None:
        """Close all idle connections."""
        for node in list(self._idle):
            self.forget(node)

    def _take(self, node: str) -> BulkConnection | None:
        connection, timer = self._idle.pop(node, (None, None))
        if timer is not None:
            timer.cancel()
        return connection

    def _keep(self, connection: BulkConnection) -> None:
        """Keep *connection* idle for the next blob of its holder, at most one for each holder."""
        self.forget(connection.node)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._settings.blob_keep_seconds, self.forget, connection.node)
        self._idle[connection.node] = (connection, timer)

    def _close(self, connection: BulkConnection) -> None:
        connection.transport.abort()
        self._traffic.settle(connection.receiver.meter)

    async def _use(
        self, connection: BulkConnection, digest: str, partial: PartialBlob, on_progress: Progress
    ) -> None:
        """Pull over *connection*; afterwards keep it, or close it if the transfer failed.

        Raises:
            _StaleConnectionError: it broke before the first byte of the answer.
            NetworkError, PeerError, DataDirectoryError: see `run`.
        """
        receiver = connection.receiver
        before, is_whole = receiver.meter.received, False
        request = encode_request(BlobRequest(digest, partial.offset))
        connection.transport.write(request)
        receiver.meter.sent += len(request)
        try:
            with self._minimum_rate(receiver):
                await self._receive(receiver, partial, on_progress)
            is_whole = True
        except OSError as error:
            reason = explain(error, self._credentials, dialing=True)
            raise (_StaleConnectionError if receiver.meter.received == before else NetworkError)(
                reason
            ) from error
        finally:
            if is_whole:
                self._keep(connection)
            else:
                self._close(connection)

    async def _receive(self, receiver: Receiver, partial: PartialBlob, on_progress: Progress) -> None:
        """Read the answer: a refusal, or the length and the bytes."""
        head = bytearray(LENGTH_BYTES)
        await receiver.read_into(memoryview(head))
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
        """Write the bytes of a short blob as they arrive."""

        def keep(piece: memoryview) -> None:
            partial.write(piece)
            on_progress(partial.offset, partial.length)

        await receiver.read_pieces(self._quick_piece, partial.length - partial.offset, keep)

    async def _receive_in_turns(
        self, receiver: Receiver, partial: PartialBlob, on_progress: Progress
    ) -> None:
        """Receive one piece of a long blob while a thread writes the previous one."""
        loop = asyncio.get_running_loop()
        missing = partial.length - partial.offset
        size = min(self._settings.blob_chunk_bytes, missing)
        buffers = [memoryview(bytearray(size)) for _ in range(2)]
        writing: asyncio.Future[None] | None = None
        try:
            while missing:
                piece = buffers[0][: min(size, missing)]
                await receiver.read_into(piece)
                if writing is not None:
                    await writing
                missing -= len(piece)
                on_progress(partial.length - missing, partial.length)
                writing = loop.run_in_executor(self._threads, partial.write, piece)
                buffers.reverse()
        finally:
            if writing is not None:
                await asyncio.wait([writing])  # until then the thread uses its buffer and file
        if writing is not None:
            await writing

    @contextlib.contextmanager
    def _minimum_rate(self, receiver: Receiver) -> Iterator[None]:
        """Enforce the minimum rate while the block reads from *receiver*; a stalled transfer fails too.

        Raises:
            NetworkError: raised in the reader when too few bytes arrive within the idle window.
        """
        loop = asyncio.get_running_loop()
        window = self._settings.blob_idle_seconds
        minimum = window * self._settings.blob_min_bytes_per_second
        timer: asyncio.TimerHandle

        def check(before: int) -> None:
            nonlocal timer
            if receiver.is_waiting and receiver.meter.received - before < minimum:
                receiver.fail(NetworkError(f"less than {minimum:.0f} bytes arrived in {window:g} s"))
            timer = loop.call_later(window, check, receiver.meter.received)

        timer = loop.call_later(window, check, receiver.meter.received)
        try:
            yield
        finally:
            timer.cancel()


async def _refusal(receiver: Receiver) -> NetworkError:
    """Read a refusal; return it as an error."""
    head = bytearray(HEADER_BYTES)
    await receiver.read_into(memoryview(head))
    decoder = FrameDecoder(MAX_BULK_FRAME_BYTES)
    decoder.feed(head)  # checks the length
    body = bytearray(int.from_bytes(head, "big"))
    await receiver.read_into(memoryview(body))
    refusal = decode_refusal(bytes(body))
    kind = HolderBusyError if refusal.code == "busy" else NetworkError
    return kind(f"it refused: {one_line(refusal.reason)}")
