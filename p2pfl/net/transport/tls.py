"""TLS between nodes: what both sides insist on, and a handshake that tells the other side why it was refused.

Two things differ from a web client's TLS. Identity is the key in a certificate of the federation's CA, never
a host name or an address, so host names are not checked and both sides show a certificate. And a failed
handshake must make sense on *both* devices: asyncio closes the socket of a failed handshake before it has
sent the TLS alert it holds, so the refused side would see nothing but a closed connection. `secure` sends
that alert (see `_Handshake`).

A connection that `secure` returned is encrypted and, seen from here, mutually authenticated; but a dialer is
not accepted before it has read something: with TLS 1.3 the server's refusal of the dialer's certificate
arrives with the first read, as an `ssl.SSLError` in `connection_lost`, which `explain` turns into a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from p2pfl.errors import CredentialsError, HandshakeRefused
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity, identify
from p2pfl.net.transport.explain import NO_TLS, explain

CONTROL_ALPN = "p2pfl/2"
"""Connections that carry the protocol's messages."""

BLOB_ALPN = "p2pfl-blob/1"
"""Connections that carry blobs, apart from the others so that bulk never delays a vote."""

OBSERVE_ALPN = "p2pfl-observe/1"
"""Connections of people's programs that watch and command a node, see `p2pfl.wire.observing`."""

ALERT_SECONDS = 1.0
"""How long a refused connection is kept so that the alert arrives: closing at once with bytes unread would
reset it away."""

PLAIN_TEXT_REPLY = b"p2pfl: this port speaks TLS 1.3 only, with certificates of its federation.\r\n"
"""For who speaks no TLS: an alert would be line noise to it."""

ALERT_DRAIN_BYTES = 256 * 1024
"""What a refused side may still send in that time, unread by anybody; a client's HELLO takes 1 KB."""

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class _HandshakeError(ssl.SSLError):
    """A failed handshake: the error, and the TLS alert for the other side, which has not been sent yet."""

    def __init__(self, cause: ssl.SSLError, alert: bytes) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.alert = alert


class _Handshake(ssl.SSLObject):
    """A TLS connection that hands out the alert of a failed handshake, which asyncio would throw away."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """Go on with the handshake.

        Raises:
            ssl.SSLWantReadError: more bytes from the other side are needed.
            _HandshakeError: it failed.
        """
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            raise _HandshakeError(error, self.outgoing.read()) from error


class _Context(ssl.SSLContext):
    """A context whose connections are `_Handshake`s."""

    sslobject_class = _Handshake

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Make a connection over two memory buffers, and let it see the one it writes to."""
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(connection, _Handshake):
            connection.outgoing = outgoing
        return connection


def server_context(
    credentials: Credentials, protocols: Sequence[str] = (CONTROL_ALPN, BLOB_ALPN, OBSERVE_ALPN)
) -> ssl.SSLContext:
    """Return the context for connections this device accepts, for any of *protocols* (ALPN names).

    Raises:
        CredentialsError: OpenSSL does not take the key or a certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials, protocols)
    # A ticket would let a peer return without showing its certificate, and cost two writes a handshake.
    context.num_tickets = 0
    return context


def client_context(credentials: Credentials, protocols: Sequence[str] = (CONTROL_ALPN,)) -> ssl.SSLContext:
    """Return the context for connections this device dials, for one of *protocols* (ALPN names).

    Raises:
        CredentialsError: OpenSSL does not take the key or a certificate.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, credentials, protocols)


async def secure(
    sock: socket.socket,
    factory: Callable[[], _Protocol],
    context: ssl.SSLContext,
    credentials: Credentials,
    *,
    dialing: bool,
    seconds: float,
) -> tuple[asyncio.Transport, _Protocol]:
    """Make the handshake on *sock* and give the connection to the protocol that *factory* makes.

    *sock* is a connected, non-blocking TCP socket. It is owned from here on: closed when this fails.
    *seconds* bounds the handshake; a refusal may take `ALERT_SECONDS` more.

    Raises:
        HandshakeRefused: either side refused, or it did not end in time; the message says which and why.
    """
    loop = asyncio.get_running_loop()
    protocol = factory()  # uvloop returns another one than it was given
    try:
        # asyncio closes its socket as soon as the handshake has failed; this one keeps the connection open.
        spare = sock.dup()
    except OSError as error:
        sock.close()
        raise HandshakeRefused(explain(error, credentials, dialing=dialing)) from error
    with spare:
        try:
            if dialing:
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    sock=sock,
                    ssl=context,
                    server_hostname="",
                    ssl_handshake_timeout=seconds,
                )
            else:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=context, ssl_handshake_timeout=seconds
                )
        except _HandshakeError as refused:
            cause = refused.cause
            plain = not dialing and cause.reason in NO_TLS
            await _send_last_words(spare, PLAIN_TEXT_REPLY if plain else refused.alert)
            raise HandshakeRefused(explain(cause, credentials, dialing=dialing)) from cause
        except OSError as error:
            # asyncio tells of the end of its own patience with an error that has no number of the system's.
            timed_out = isinstance(error, ConnectionAbortedError) and error.errno is None
            reason = explain(TimeoutError() if timed_out else error, credentials, dialing=dialing)
            raise HandshakeRefused(reason) from error
    return transport, protocol


def authenticate(transport: asyncio.BaseTransport, credentials: Credentials) -> tuple[PeerIdentity, str]:
    """Return who is at the other end of a connection made by `secure`, and the ALPN name of what it is for.

    Raises:
        HandshakeRefused: its certificate names no identity of this federation, or no protocol was agreed on.
    """
    connection = transport.get_extra_info("ssl_object")
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        raise HandshakeRefused(
            "This device refused the other side: it showed no certificate, so it is no p2pfl node."
        )
    identity = identify(certificate, credentials.federation)
    protocol = connection.selected_alpn_protocol()
    if protocol is None:
        raise HandshakeRefused(
            f"This device refused {identity}: it shares no version of the protocol ({CONTROL_ALPN}, "
            f"{BLOB_ALPN}, {OBSERVE_ALPN}) with this one. Install the same version of p2pfl on both."
        )
    return identity, protocol


def _context(protocol: int, credentials: Credentials, protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context with all that holds for both sides."""
    context = _Context(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Identity is the key, wherever the device is reached: certificates hold no host names to compare.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_verify_locations(cafile=credentials.authority_path)
        context.load_cert_chain(credentials.certificate_path, credentials.key_path)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(
            f"The key or the certificates in {credentials.directory} cannot be used: {error}. Copy the "
            "folder that `p2pfl certs issue NAME` wrote, whole."
        ) from error
    return context


async def _send_last_words(sock: socket.socket, words: bytes) -> None:
    """Send the last words of a refused handshake, and give the other side a bounded time to read them."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):  # the other side may be gone; it is refused either way
        async with asyncio.timeout(ALERT_SECONDS):
            await loop.sock_sendall(sock, words)
            sock.shutdown(socket.SHUT_WR)
            unread = ALERT_DRAIN_BYTES
            while unread > 0 and (received := await loop.sock_recv(sock, 16384)):
                unread -= len(received)
