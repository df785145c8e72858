"""Bulk connections as a dialer makes them: to one node, at whichever of its addresses answers first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import AllFailed, race
from p2pfl.net.transport.tls import BLOB_ALPN, authenticate, client_context, secure
from p2pfl.wire.blobs import MAX_BULK_FRAME_BYTES, BlobRequest, encode_request

NEXT_ADDRESS_SECONDS = 0.25
"""For one address before the next one is dialled beside it (RFC 8305, section 5)."""

MAX_TOLD = 2
"""Addresses named when none answers."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


@dataclass(frozen=True)
class BulkConnection:
    """The puller's end of a bulk connection with a holder, which proved to be *node*."""

    node: str
    transport: asyncio.Transport
    receiver: Receiver


class Undialled(NetworkError):  # noqa: N818 - says what happened
    """A node did not answer at any of its addresses; the message goes on behind its name."""

    def __init__(self, addresses: Sequence[Address], errors: Sequence[NetworkError]) -> None:
        """Take what came of dialling each of *addresses*, of which there may be none."""
        self.port = addresses[0].port if addresses else None
        self.is_answered = any(isinstance(error, HandshakeRefused) for error in errors)
        """Whether somebody answered, so that no firewall is to blame."""
        where = " and ".join(map(str, addresses[:MAX_TOLD]))
        reasons = "; ".join(dict.fromkeys(map(_brief, errors[:MAX_TOLD])))
        super().__init__(
            f"cannot be dialled at {where} ({reasons})" if addresses else "has no known address to dial"
        )


class BulkDialler:
    """Dials nodes for bulk with one node's credentials."""

    def __init__(self, credentials: Credentials, settings: NetSettings) -> None:
        self._credentials = credentials
        self._settings = settings
        self._client = client_context(credentials, [BLOB_ALPN])

    async def dial(
        self, node: str, addresses: Sequence[Address], factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT, PeerIdentity]:
        """Return a new connection to *node*, read by what *factory* makes.

        Raises:
            Undialled: it was reached at none of *addresses*; or somebody else was.
        """
        attempts = [partial(self._dial, node, address, factory) for address in addresses]
        try:
            _, dialled = await race(attempts, NEXT_ADDRESS_SECONDS, lambda late: late[0].abort())
        except AllFailed as error:
            raise Undialled(addresses, error.errors) from error
        return dialled

    async def _dial(
        self, node: str, address: Address, factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT, PeerIdentity]:
        connection = await sockets.connect(address, self._settings.dial_seconds)
        sockets.tune(connection, self._settings.blob_idle_seconds)
        transport, protocol = await secure(
            connection,
            factory,
            self._client,
            self._credentials,
            dialing=True,
            seconds=self._settings.handshake_seconds,
        )
        try:
            identity, _ = authenticate(transport, self._credentials)
            if identity.node_id != node:
                raise HandshakeRefused(
                    f"node {short(node)} was expected at {address}, but {identity} answered"
                )
        except BaseException:
            transport.abort()
            raise
        return transport, protocol, identity


def _brief(error: NetworkError) -> str:
    """Return the reason without the advice that follows it: that is given for all addresses together."""
    text = str(error)
    return text.rstrip(".") if isinstance(error, HandshakeRefused) else text.partition(": ")[0]


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
