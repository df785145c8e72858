"""Ask who answers at an address, without becoming its peer: for `p2pfl doctor`.

A dialer's TLS handshake is done before the listener has judged the dialer's certificate (TLS 1.3), so a
handshake alone would show half the truth. The probe therefore asks one question to which every node has an
answer: a bulk request for a blob that nobody has. The answer proves both certificates, and a bulk connection
takes part in nothing: no HELLO, no link, no boot count, nothing a running federation would notice.
"""

from __future__ import annotations

import asyncio

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net import sockets
from p2pfl.net.addresses import Address
from p2pfl.net.explain import explain
from p2pfl.net.stream import FrameStream, StreamProtocol
from p2pfl.net.tls import BLOB_ALPN, authenticate, client_context, secure
from p2pfl.wire.blobs import MAX_BULK_FRAME_BYTES, BlobRequest, encode_request

NOBODYS_DIGEST = "0" * 64
"""No blob has it: to find one would be to break BLAKE3."""


async def probe(address: Address, credentials: Credentials, settings: NetSettings) -> PeerIdentity:
    """Return who answers at *address* and takes this device's certificate.

    Raises:
        HandshakeRefused: one side refused the other, or what answers is no node; a sentence says which.
        NetworkError: nobody could be reached there; half a sentence says why.
    """
    connection = await sockets.connect(address, settings.dial_seconds)
    transport, protocol = await secure(
        connection,
        StreamProtocol,
        client_context(credentials, [BLOB_ALPN]),
        credentials,
        dialing=True,
        seconds=settings.handshake_seconds,
    )
    stream = FrameStream(transport, protocol, MAX_BULK_FRAME_BYTES)
    try:
        identity, _ = authenticate(transport, credentials)
        async with asyncio.timeout(settings.handshake_seconds):
            await stream.write(encode_request(BlobRequest(NOBODYS_DIGEST, 0)))
            answer = await protocol.read()
    except (OSError, PeerError) as error:
        raise HandshakeRefused(explain(error, credentials, dialing=True)) from error
    finally:
        stream.abort()
    if not answer:
        raise HandshakeRefused(f"{identity} closed the connection without a word; its log may say more.")
    return identity
