"""Dials bulk connections: to one node, at the first of its addresses that answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.tasks import AllAttemptsFailedError, run_staggered
from p2pfl.net.transport.tls import BLOB_ALPN, authenticate, client_context, secure

CONNECTION_ATTEMPT_DELAY_SECONDS = 0.25
"""Between the starts of dials to two addresses of one node (RFC 8305, section 5)."""

MAX_NAMED_ADDRESSES = 2
"""Addresses that an error message names."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


@dataclass(frozen=True)
class BulkConnection:
    """The puller's end of a bulk connection to a holder, authenticated as *node*."""

    node: str
    transport: asyncio.Transport
    receiver: Receiver


class DialFailedError(NetworkError):
    """No address of a node answered; the message continues a sentence that starts with its name."""

    def __init__(self, addresses: Sequence[Address], errors: Sequence[NetworkError]) -> None:
        """Take the errors of dialling *addresses*, of which there may be none."""
        self.port = addresses[0].port if addresses else None
        self.is_answered = any(isinstance(error, HandshakeRefused) for error in errors)
        """Whether a node answered, so that no firewall is the cause."""
        where = " and ".join(map(str, addresses[:MAX_NAMED_ADDRESSES]))
        reasons = "; ".join(dict.fromkeys(map(_brief, errors[:MAX_NAMED_ADDRESSES])))
        super().__init__(
            f"cannot be dialled at {where} ({reasons})" if addresses else "has no known address to dial"
        )


class BulkDialler:
    """Dials bulk connections with the credentials of one node."""

    def __init__(self, credentials: Credentials, settings: NetSettings) -> None:
        self._credentials = credentials
        self._settings = settings
        self._client = client_context(credentials, [BLOB_ALPN])

    def use(self, credentials: Credentials) -> None:
        """Show the renewed certificate in *credentials* in all later handshakes.

        Raises:
            CredentialsError: OpenSSL rejects the key or a certificate; those in use stay.
        """
        self._client = client_context(credentials, [BLOB_ALPN])
        self._credentials = credentials

    async def dial(
        self, node: str, addresses: Sequence[Address], factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT, PeerIdentity]:
        """Return a new connection to *node*, with a protocol that *factory* makes.

        Raises:
            DialFailedError: none of *addresses* answered, or only other nodes did.
        """
        attempts = [partial(self._dial, node, address, factory) for address in addresses]
        try:
            _, dialled = await run_staggered(
                attempts, CONNECTION_ATTEMPT_DELAY_SECONDS, lambda late: late[0].abort()
            )
        except AllAttemptsFailedError as error:
            raise DialFailedError(addresses, error.errors) from error
        return dialled

    async def _dial(
        self, node: str, address: Address, factory: Callable[[], ProtocolT]
    ) -> tuple[asyncio.Transport, ProtocolT, PeerIdentity]:
        connection = await sockets.connect(address, self._settings.dial_seconds)
        sockets.set_options(connection, self._settings.blob_idle_seconds)
        seconds = self._settings.handshake_seconds
        transport, protocol = await secure(
            connection, factory, self._client, self._credentials, dialing=True, seconds=seconds
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
    """Return the reason without the advice after it, which is given once for all addresses."""
    text = str(error)
    return text.rstrip(".") if isinstance(error, HandshakeRefused) else text.partition(": ")[0]
