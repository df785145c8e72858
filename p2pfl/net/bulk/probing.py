"""Probes for `p2pfl doctor`: which node answers at an address, and how good the way to it is.

A probe is a bulk connection: it makes no link and sends no HELLO, so a running federation does not notice it.
What it moves is bounded by `MAX_MEASURED_BYTES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.stream import StreamProtocol
from p2pfl.net.transport.tls import BLOB_ALPN, authenticate, client_context, secure
from p2pfl.wire.blobs import (
    LENGTH_BYTES,
    MAX_MEASURED_BYTES,
    MAX_PADDING_BYTES,
    MAX_REPLY_BYTES,
    REFUSED,
    BlobRequest,
    MeasureReply,
    MeasureRequest,
    decode_reply,
    encode_request,
)
from p2pfl.wire.frames import FrameDecoder

ABSENT_DIGEST = "0" * 64
"""The digest of no blob: finding one would break BLAKE3."""

ROUND_TRIPS = 5
"""Round trips that are timed; the shortest one counts, since the others waited for something."""

FIRST_BYTES = 64 * 1024
"""Bytes of the first timed transfer: 40 full packets."""

QUICK_SECONDS = 0.5
"""If the first transfer takes no longer, a second one of `MAX_MEASURED_BYTES` gives a better rate."""

STEP_SECONDS = 5.0
"""Time limit of each step of a measurement."""


class LargePacketsLostError(NetworkError):
    """Short messages are answered, and those that fill a packet are not."""


@dataclass(frozen=True)
class WayMeasurement:
    """The way between this device and a node."""

    delay: float
    """Shortest round-trip time in seconds."""
    clock_offset: float
    """Seconds by which the node's clock is ahead of this device's, accurate to half of `delay`."""
    rate: float
    """Bytes a second from the node to this device."""
    segment_bytes: int
    """Largest part of a TCP stream in one packet; 0 if the system does not tell it."""
    about: MeasureReply
    """What the node says of itself."""


class Probe:
    """An authenticated bulk connection to the node that answers at an address."""

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: StreamProtocol,
        credentials: Credentials,
        seconds: float,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._credentials = credentials
        self._seconds = seconds
        self._unread = b""
        self.identity, _ = authenticate(transport, credentials)

    async def check_accepted(self) -> None:
        """Check that the node accepts this device's certificate.

        With TLS 1.3 a dialer finishes its handshake before the listener has checked its certificate. So this
        requests a blob that no node has: the answer proves that both certificates were accepted.

        Raises:
            HandshakeRefused: the node refused this device; the message is a sentence.
        """
        try:
            async with asyncio.timeout(self._seconds):
                self._transport.write(encode_request(BlobRequest(ABSENT_DIGEST, 0)))
                answer = await self._protocol.read()
        except (OSError, PeerError) as error:
            raise HandshakeRefused(explain(error, self._credentials, dialing=True)) from error
        if not answer:
            raise HandshakeRefused(
                f"{self.identity} closed the connection without an answer; its log may say more."
            )

    async def measure(self) -> WayMeasurement:
        """Measure the way to the node; call it on a connection that nothing was requested on.

        Raises:
            LargePacketsLostError: only short messages get through.
            NetworkError: the node does not know this request, or the connection broke.
        """
        delay, offset, about = await self._round_trips()
        try:
            await self._timed(MeasureRequest(0, bytes(MAX_PADDING_BYTES)))
            rate = await self._rate(delay)
        except TimeoutError as error:
            raise LargePacketsLostError(
                "short messages are answered, and those that fill a packet are not"
            ) from error
        return WayMeasurement(delay, offset, rate, _segment_bytes(self._transport), about)

    async def _round_trips(self) -> tuple[float, float, MeasureReply]:
        """Return the shortest round-trip time, the clock offset seen in it, and the last reply."""
        found = []
        try:
            for _ in range(ROUND_TRIPS):
                sent_at = time.time()
                seconds, about = await self._timed(MeasureRequest(0))
                found.append((seconds, about.time - (sent_at + seconds / 2), about))
        except TimeoutError as error:
            raise NetworkError(f"it does not answer within {STEP_SECONDS:g} s: it is busy") from error
        delay, offset, _ = min(found, key=lambda one: one[0])
        return delay, offset, found[-1][2]

    async def _rate(self, delay: float) -> float:
        size = FIRST_BYTES
        seconds, _ = await self._timed(MeasureRequest(size))
        if seconds <= QUICK_SECONDS:
            size = MAX_MEASURED_BYTES
            with contextlib.suppress(TimeoutError):  # the first one was lucky, and counts
                seconds, _ = await self._timed(MeasureRequest(size))
        return size / max(seconds - delay, seconds / 2)  # on a busy device the round trips took longer

    async def _timed(self, request: MeasureRequest) -> tuple[float, MeasureReply]:
        """Return how long *request* took until its last byte was here, and the reply.

        Raises:
            TimeoutError: it took longer than `STEP_SECONDS`.
            NetworkError: the node refused it, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(STEP_SECONDS):
                self._transport.write(encode_request(request))
                length = int.from_bytes(await self._exactly(LENGTH_BYTES), "big")
                if length == REFUSED or length > MAX_REPLY_BYTES + request.size:
                    raise NetworkError("it does not measure: it runs an older p2pfl, or is busy")
                answer = await self._exactly(length)
        except TimeoutError:
            raise
        except OSError as error:
            raise NetworkError(explain(error, self._credentials, dialing=True)) from error
        seconds = loop.time() - began
        try:
            [body] = FrameDecoder(MAX_REPLY_BYTES).feed(answer[: length - request.size])
            return seconds, decode_reply(body)
        except (PeerError, ValueError) as error:
            raise NetworkError(f"it sent something that is no measurement ({error})") from error

    async def _exactly(self, count: int) -> bytes:
        """Return the next *count* bytes.

        Raises:
            NetworkError: the node closed the connection.
            OSError: the connection broke.
        """
        parts = [self._unread]
        have = len(self._unread)
        while have < count:
            received = await self._protocol.read()
            if not received:
                raise NetworkError("it closed the connection: it runs an older p2pfl, or is stopping")
            parts.append(received)
            have += len(received)
        data = b"".join(parts)
        self._unread = data[count:]
        return data[:count]


@asynccontextmanager
async def probing(address: Address, credentials: Credentials, settings: NetSettings) -> AsyncIterator[Probe]:
    """Connect to the node at *address*; close the connection at the end of the context.

    Raises:
        HandshakeRefused: one side refused, or no node answers there; the message is a sentence.
        NetworkError: the address cannot be reached; the message is half a sentence.
    """
    connection = await sockets.connect(address, settings.dial_seconds)
    sockets.set_options(connection, settings.blob_idle_seconds)
    context, seconds = client_context(credentials, [BLOB_ALPN]), settings.handshake_seconds
    transport, protocol = await secure(
        connection, StreamProtocol, context, credentials, dialing=True, seconds=seconds
    )
    try:
        yield Probe(transport, protocol, credentials, seconds)
    finally:
        transport.abort()


async def probe(address: Address, credentials: Credentials, settings: NetSettings) -> PeerIdentity:
    """Return the identity of the node at *address*, which accepts this device's certificate.

    Raises:
        HandshakeRefused: one side refused, or no node answers there; the message is a sentence.
        NetworkError: the address cannot be reached; the message is half a sentence.
    """
    async with probing(address, credentials, settings) as connection:
        await connection.check_accepted()
        return connection.identity


def _segment_bytes(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_MAXSEG", None)
    if connection is None or option is None:
        return 0
    try:
        return int(connection.getsockopt(socket.IPPROTO_TCP, option))
    except OSError:
        return 0
