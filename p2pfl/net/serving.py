"""Serving blobs: the holder's side of a bulk connection.

The file is read in a thread, one piece ahead of what the network takes, so that a slow disk never stops the
event loop and a heartbeat with it. A piece that is not taken at the least rate ends the connection: who asks
and does not read must not keep a file open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from concurrent.futures import Executor
from functools import partial
from typing import BinaryIO

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.acceptor import Serve
from p2pfl.net.explain import explain
from p2pfl.net.stream import FINISH_SECONDS, FrameStream
from p2pfl.net.traffic import Traffic
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.blobs import BlobRefusal, BlobRequest, decode_request, encode_length, encode_refusal
from p2pfl.wire.codec import bounded

logger = logging.getLogger(__name__)


class BlobServer:
    """Answers requests for the blobs of one store."""

    def __init__(
        self,
        credentials: Credentials,
        store: BlobStore,
        settings: NetSettings,
        traffic: Traffic,
        threads: Executor,
    ) -> None:
        self._credentials = credentials
        self._store = store
        self._settings = settings
        self._traffic = traffic
        self._threads = threads
        self._serving = 0

    async def hear(self, stream: FrameStream, identity: PeerIdentity, _address: str) -> Serve | None:
        """Read the request on an accepted bulk connection; return what answers it, None when it was closed.

        Raises:
            HandshakeRefused: no request came, or one that is none.
        """
        try:
            async with asyncio.timeout(self._settings.handshake_seconds):
                body = await stream.next_body()
            request = None if body is None else decode_request(body)
        except PeerError as error:
            await self._refuse(stream, BlobRefusal("protocol", bounded(str(error))))
            raise HandshakeRefused(f"This device refused {identity}: {error}.") from error
        except OSError as error:
            stream.abort()
            raise HandshakeRefused(explain(error, self._credentials, dialing=False)) from error
        except BaseException:
            stream.abort()
            raise
        if request is None:
            await stream.finish()
            return None
        return partial(self._serve, stream, identity, request)

    async def _serve(self, stream: FrameStream, identity: PeerIdentity, request: BlobRequest) -> None:
        """Answer *request* and close."""
        self._serving += 1
        self._traffic.watch("bulk", identity.node_id, stream.meter)
        try:
            await self._answer(stream, identity, request)
        except TimeoutError:
            logger.info("%s reads blob %s too slowly; the transfer was ended", identity, request.digest)
        except OSError as error:
            logger.debug("the transfer of blob %s to %s broke: %s", request.digest, identity, error)
        finally:
            self._serving -= 1
            stream.abort()
            self._traffic.settle(stream.meter)

    async def _answer(self, stream: FrameStream, identity: PeerIdentity, request: BlobRequest) -> None:
        """Send the blob, or say why not."""
        loop = asyncio.get_running_loop()
        refusal = self._refusal(identity)
        if refusal is None:
            try:
                file, length = await loop.run_in_executor(self._threads, self._open, request)
            except FileNotFoundError:
                refusal = BlobRefusal("absent", "it is not here")
            else:
                with file:
                    if request.offset <= length:
                        await self._send(stream, file, length)
                        return
                refusal = BlobRefusal("offset", f"the blob has {length} bytes")
        await self._refuse(stream, refusal)

    def _refusal(self, identity: PeerIdentity) -> BlobRefusal | None:
        """Return why *identity* gets nothing now, whatever it asks for."""
        if identity.role != "node":
            return BlobRefusal("role", f"the certificate of {identity.name} has the role {identity.role}")
        if self._serving > self._settings.max_serving:
            return BlobRefusal("busy", f"{self._settings.max_serving} transfers are under way")
        return None

    def _open(self, request: BlobRequest) -> tuple[BinaryIO, int]:
        """Open the blob at the wanted offset; return it with the blob's length. Raises FileNotFoundError."""
        file = self._store.path(request.digest).open("rb", buffering=0)
        length = file.seek(0, io.SEEK_END)
        file.seek(request.offset)
        return file, length

    async def _send(self, stream: FrameStream, file: BinaryIO, length: int) -> None:
        """Send the length, then the bytes of *file* from where it stands."""
        loop = asyncio.get_running_loop()
        piece_bytes = self._settings.blob_chunk_bytes
        seconds = max(
            self._settings.blob_idle_seconds, piece_bytes / self._settings.blob_least_bytes_per_second
        )
        await stream.write(encode_length(length))
        reading = loop.run_in_executor(self._threads, file.read, piece_bytes)
        try:
            while piece := await reading:
                reading = loop.run_in_executor(self._threads, file.read, piece_bytes)
                async with asyncio.timeout(seconds):
                    await stream.write(piece)
        finally:
            await asyncio.wait([reading])  # the file is closed next
        await _until_closed(stream, seconds)

    async def _refuse(self, stream: FrameStream, refusal: BlobRefusal) -> None:
        """Say why there is nothing, and close."""
        with contextlib.suppress(OSError):  # the peer may be gone; it is refused either way
            await stream.write(encode_refusal(refusal))
            await _until_closed(stream, FINISH_SECONDS)
        stream.abort()


async def _until_closed(stream: FrameStream, seconds: float) -> None:
    """Let the puller close first: at the end asyncio's TLS drops what a paused reader has not read."""
    async with asyncio.timeout(seconds):
        await stream.next_body()
