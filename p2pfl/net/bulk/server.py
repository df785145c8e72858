"""Serves blobs: the holder's side of a bulk connection.

A thread reads a long file one piece ahead of the network, so a slow disk never blocks the event loop and with
it a heartbeat. All transfers share the memory for pieces: a whole roster pulls a new model at the same time.
If a puller reads slower than the minimum rate, its connection is closed: a puller that requests a blob and
does not read it must not keep a file open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import BinaryIO

from p2pfl.config import NetSettings
from p2pfl.errors import PeerError
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk.request import PeerProgress, Progress, throttled
from p2pfl.net.transport.stream import FINISH_SECONDS, FrameStream
from p2pfl.net.transport.traffic import Traffic
from p2pfl.store.blobs import QUICK_BYTES, BlobStore
from p2pfl.text import one_line
from p2pfl.wire.blobs import (
    BlobRefusal,
    BlobRequest,
    BulkRequest,
    MeasureReply,
    MeasureRequest,
    decode_request,
    encode_length,
    encode_refusal,
    encode_reply,
)

logger = logging.getLogger(__name__)

PIECE_BYTES = 128 * 1024
"""Encrypted and written to the socket at a time: it fits the processor's cache, and the socket takes all of
it without a copy of the rest. Short blobs are also read in such pieces."""

ARBITRARY = os.urandom(PIECE_BYTES)
"""Bytes to measure with: a tunnel that compresses gains nothing."""

SERVING_BYTES = 8 * 1024 * 1024
"""Bytes of long files in memory, in two pieces for each transfer. Up to four transfers have pieces of
`NetSettings.blob_chunk_bytes`, `NetSettings.max_serving` of them have pieces of `PIECE_BYTES`. A transfer has
the smaller pieces from its next read on."""


class BlobServer:
    """Serves the blobs of one store."""

    def __init__(
        self,
        store: BlobStore,
        settings: NetSettings,
        traffic: Traffic,
        threads: Executor,
        on_progress: PeerProgress,
        about: Callable[[], MeasureReply],
        exclusion: Callable[[PeerIdentity], str] = lambda _: "",
    ) -> None:
        """Serve nothing yet; *on_progress* is called with the puller's name for blobs that are not short.

        *about* returns what this node tells of itself when a way is measured. *exclusion* returns why a
        puller is kept out of the federation; empty if it is not.
        """
        self._store = store
        self._settings = settings
        self._traffic = traffic
        self._threads = threads
        self._on_progress = on_progress
        self._about = about
        self._exclusion = exclusion
        self._serving = 0
        self._connections = 0

    @property
    def is_full(self) -> bool:
        """Whether it serves as many connections as it may."""
        return self._connections >= self._settings.max_bulk

    async def serve_dialled_back(self, stream: FrameStream, identity: PeerIdentity) -> None:
        """Serve on a connection that this node dialled back to *identity*."""
        try:
            request = await self._next(stream, self._settings.handshake_seconds)
        except (PeerError, OSError) as error:
            logger.debug("%s did not use the connection dialled back to it: %s", identity, error)
            stream.abort()
            return
        except BaseException:
            stream.abort()
            raise
        await self.serve(stream, identity, request)

    async def _next(self, stream: FrameStream, seconds: float) -> BulkRequest | None:
        """Wait for the next request; return None after the other side has closed.

        Raises:
            TimeoutError: none arrived in time.
            PeerError: an invalid frame arrived.
            OSError: the connection broke.
        """
        async with asyncio.timeout(seconds):
            body = await stream.next_body()
        return None if body is None else decode_request(body)

    async def serve(self, stream: FrameStream, identity: PeerIdentity, request: BulkRequest | None) -> None:
        """Answer *request* and those that follow on the same connection, until the puller closes it."""
        self._connections += 1
        self._traffic.watch("bulk", identity.node_id, stream.meter)
        # By default 512 KiB wait for a slow puller, and OpenSSL's buffer never shrinks.
        stream.transport.set_write_buffer_limits(high=PIECE_BYTES)
        try:
            if (refusal := self._refusal(identity)) is not None:
                await self.refuse(stream, refusal)
                return
            while request is not None:
                if isinstance(request, MeasureRequest):
                    await self._answer_measurement(stream, request)
                else:
                    on_progress = partial(throttled(self._on_progress), identity.name)
                    await self._answer(stream, request, on_progress)
                # This also lets the puller read what was sent: when a connection closes, asyncio's TLS drops
                # bytes that a paused reader has not read.
                idle_seconds = max(2 * self._settings.blob_keep_seconds, self._piece_seconds())
                request = await self._next(stream, idle_seconds)
        except TimeoutError:
            logger.debug("the bulk connection of %s was idle or too slow and was closed", identity)
        except PeerError as error:
            logger.info("the bulk connection of %s was closed: %s", identity, error)
        except OSError as error:
            logger.debug("the bulk connection of %s broke: %s", identity, error)
        finally:
            self._connections -= 1
            stream.abort()
            self._traffic.settle(stream.meter)

    def _refusal(self, identity: PeerIdentity) -> BlobRefusal | None:
        """Return why every request of *identity* is refused, None if it is not."""
        if identity.role != "node":
            return BlobRefusal("role", f"the certificate of {identity.name} has the role {identity.role}")
        if reason := self._exclusion(identity):
            return BlobRefusal("role", one_line(f"{identity.name} {reason}", 300))
        if self._connections > self._settings.max_bulk:
            return BlobRefusal("busy", f"{self._settings.max_bulk} bulk connections are open")
        return None

    async def _answer_measurement(self, stream: FrameStream, request: MeasureRequest) -> None:
        """Send what this node tells of itself, then arbitrary bytes."""
        async with asyncio.timeout(self._piece_seconds()):
            await stream.write(encode_reply(self._about(), request.size))
        for start in range(0, request.size, PIECE_BYTES):
            async with asyncio.timeout(self._piece_seconds()):
                await stream.write(ARBITRARY[: min(PIECE_BYTES, request.size - start)])

    async def _answer(self, stream: FrameStream, request: BlobRequest, on_progress: Progress) -> None:
        """Send the blob, or a refusal."""
        if self._serving >= self._settings.max_serving:
            refusal = BlobRefusal("busy", f"{self._settings.max_serving} transfers are under way")
        else:
            with contextlib.ExitStack() as stack:
                try:
                    file = stack.enter_context(self._store.reading(request.digest))
                except FileNotFoundError:
                    refusal = BlobRefusal("absent", "it is not here")
                else:
                    length = file.seek(0, io.SEEK_END)
                    if file.seek(request.offset) <= length:
                        self._serving += 1
                        try:
                            await self._send(stream, file, length, on_progress)
                        finally:
                            self._serving -= 1
                        return
                    refusal = BlobRefusal("offset", f"the blob has {length} bytes")
        await stream.write(encode_refusal(refusal))

    async def _send(self, stream: FrameStream, file: BinaryIO, length: int, on_progress: Progress) -> None:
        """Send the length, then the bytes of *file* from its current position."""
        seconds = self._piece_seconds()
        await stream.write(encode_length(length))
        if length <= QUICK_BYTES:
            async with asyncio.timeout(seconds):
                while piece := file.read(PIECE_BYTES):
                    await stream.write(piece)
            return
        loop = asyncio.get_running_loop()
        sent = file.tell()
        reading = loop.run_in_executor(self._threads, file.read, self._piece_bytes())
        try:
            while piece := await reading:
                reading = loop.run_in_executor(self._threads, file.read, self._piece_bytes())
                async with asyncio.timeout(seconds):
                    for start in range(0, len(piece), PIECE_BYTES):
                        await stream.write(piece[start : start + PIECE_BYTES])
                sent += len(piece)
                on_progress(sent, length)
        finally:
            await asyncio.wait([reading])  # the file is closed next

    def _piece_bytes(self) -> int:
        """Return how many bytes of a long file to read at a time: less while many transfers are under way."""
        share = SERVING_BYTES // (2 * self._serving)
        return min(self._settings.blob_chunk_bytes, max(PIECE_BYTES, share))

    def _piece_seconds(self) -> float:
        """Return how long a puller may take to read one piece."""
        slowest = self._settings.blob_chunk_bytes / self._settings.blob_min_bytes_per_second
        return max(self._settings.blob_idle_seconds, slowest)

    async def refuse(self, stream: FrameStream, refusal: BlobRefusal) -> None:
        """Send *refusal*, and close the connection."""
        try:
            with contextlib.suppress(OSError, PeerError):  # the puller may be gone, or send more requests
                await stream.write(encode_refusal(refusal))
                # The puller closes first: asyncio's TLS drops bytes that a paused reader has not read.
                async with asyncio.timeout(FINISH_SECONDS):
                    await stream.next_body()
        finally:
            stream.abort()
