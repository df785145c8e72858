"""Mutual TLS 1.3 between nodes, with a handshake that reports its failure to both sides.

Two things differ from the TLS of a web client. A peer's identity is the key in its certificate, which the
federation's CA has signed; host names are not checked, and both sides send a certificate. And both devices
must learn why a handshake failed: asyncio closes the socket before it has sent the TLS alert, so the refused
side would only see a closed connection. `secure` sends that alert (see `_Handshake`).

After `secure` the connection is encrypted and this side has authenticated the other one. A dialer does not
know yet whether the server accepts its certificate: with TLS 1.3 a refusal arrives with the first read, as an
`ssl.SSLError` in `connection_lost`. `p2pfl.net.transport.explain` turns it into a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from p2pfl.errors import CredentialsError, HandshakeRefused, VersionRefused
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity, identify
from p2pfl.net.transport.explain import NO_TLS, explain

CONTROL_ALPN = "p2pfl/2"
"""For control connections, which carry the messages of the protocol."""

BLOB_ALPN = "p2pfl-blob/1"
"""For bulk connections, which carry blobs: these are separate so that a blob never delays a vote."""

OBSERVE_ALPN = "p2pfl-observe/1"
"""For observers, which show and command a node, see `p2pfl.wire.observing`."""

ALERT_SECONDS = 1.0
"""How long a refused connection stays open so that the alert arrives: closing a socket with unread bytes
sends a reset, which may destroy the alert."""

PLAIN_TEXT_REPLY = b"p2pfl: this port speaks TLS 1.3 only, with certificates of its federation.\r\n"
"""The answer to a client that does not speak TLS and so would not understand an alert."""

MAX_DRAINED_BYTES = 256 * 1024
"""How many bytes of a refused side are read and dropped in that time; a ClientHello has 1 KB."""

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class _HandshakeError(ssl.SSLError):
    """A failed handshake: the error, and the TLS alert that is still to be sent."""

    def __init__(self, cause: ssl.SSLError, alert: bytes) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.alert = alert


class _Handshake(ssl.SSLObject):
    """A TLS connection that keeps the alert of a failed handshake, which asyncio would drop."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """Continue the handshake.

        Raises:
            ssl.SSLWantReadError: more bytes of the other side are needed.
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
        """Make a TLS connection over two memory buffers, and give it access to the outgoing one."""
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(connection, _Handshake):
            connection.outgoing = outgoing
        return connection


def server_context(
    credentials: Credentials, protocols: Sequence[str] = (CONTROL_ALPN, BLOB_ALPN, OBSERVE_ALPN)
) -> ssl.SSLContext:
    """Return the context for accepted connections, with any of *protocols* (ALPN names).

    Raises:
        CredentialsError: OpenSSL rejects the key or a certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials, protocols)
    # With a session ticket a peer could reconnect without its certificate; tickets also cost two writes.
    context.num_tickets = 0
    return context


def client_context(credentials: Credentials, protocols: Sequence[str] = (CONTROL_ALPN,)) -> ssl.SSLContext:
    """Return the context for dialled connections, with one of *protocols* (ALPN names).

    Raises:
        CredentialsError: OpenSSL rejects the key or a certificate.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, credentials, protocols)


def anonymous_server_context(identity: Path, protocol: str) -> ssl.SSLContext:
    """Return the context of a listener to which dialers show no certificate, for *protocol* (an ALPN name).

    *identity* is a file with the private key and the certificate of the listener in PEM form.
    """
    context = _new_context(ssl.PROTOCOL_TLS_SERVER, [protocol])
    context.verify_mode = ssl.CERT_NONE
    context.num_tickets = 0
    context.load_cert_chain(identity)
    return context


def anonymous_client_context(protocol: str) -> ssl.SSLContext:
    """Return the context of a dialer that shows no certificate, for *protocol* (an ALPN name).

    It accepts any certificate: what runs in the connection must authenticate the listener.
    """
    context = _new_context(ssl.PROTOCOL_TLS_CLIENT, [protocol])
    context.verify_mode = ssl.CERT_NONE
    return context


async def secure(
    sock: socket.socket,
    factory: Callable[[], _Protocol],
    context: ssl.SSLContext,
    credentials: Credentials,
    *,
    dialing: bool,
    seconds: float,
) -> tuple[asyncio.Transport, _Protocol]:
    """Perform the TLS handshake between two devices of a federation on *sock*, as `secure_with` does.

    Raises:
        HandshakeRefused: one side refused, or the handshake timed out; the message says which and why.
    """

    def why(error: BaseException) -> str:
        return explain(error, credentials, dialing=dialing)

    return await secure_with(sock, factory, context, why, dialing=dialing, seconds=seconds)


async def secure_with(
    sock: socket.socket,
    factory: Callable[[], _Protocol],
    context: ssl.SSLContext,
    why: Callable[[BaseException], str],
    *,
    dialing: bool,
    seconds: float,
) -> tuple[asyncio.Transport, _Protocol]:
    """Perform the TLS handshake on *sock*; return the transport and the protocol that *factory* makes.

    *sock* is a connected, non-blocking TCP socket. This function takes ownership: it closes *sock* if it
    fails. *why* returns a sentence about an error. *seconds* bounds the handshake; a refusal may take
    `ALERT_SECONDS` more.

    Raises:
        HandshakeRefused: one side refused, or the handshake timed out; the message says which and why.
    """
    loop = asyncio.get_running_loop()
    protocol = factory()  # uvloop does not return the same object
    try:
        # asyncio closes its socket when the handshake fails; this duplicate keeps the connection open.
        duplicate = sock.dup()
    except OSError as error:
        sock.close()
        raise HandshakeRefused(why(error)) from error
    with duplicate:
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
            await _send_alert(duplicate, PLAIN_TEXT_REPLY if plain else refused.alert)
            raise HandshakeRefused(why(cause)) from cause
        except OSError as error:
            # asyncio reports its own timeout as a ConnectionAbortedError without errno.
            timed_out = isinstance(error, ConnectionAbortedError) and error.errno is None
            raise HandshakeRefused(why(TimeoutError() if timed_out else error)) from error
    return transport, protocol


def authenticate(transport: asyncio.BaseTransport, credentials: Credentials) -> tuple[PeerIdentity, str]:
    """Return the identity of the peer on a connection made by `secure`, and the agreed ALPN name.

    Raises:
        HandshakeRefused: its certificate is not of this federation.
        VersionRefused: no ALPN name was agreed on.
    """
    connection = transport.get_extra_info("ssl_object")
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        raise HandshakeRefused(
            "This device refused the other side: it sent no certificate, so it is not a p2pfl node."
        )
    identity = identify(certificate, credentials.federation)
    protocol = connection.selected_alpn_protocol()
    if protocol is None:
        raise VersionRefused(
            f"This device refused {identity}: it shares no version of the protocol ({CONTROL_ALPN}, "
            f"{BLOB_ALPN}, {OBSERVE_ALPN}) with this one. Install the same version of p2pfl on both."
        )
    return identity, protocol


def _context(protocol: int, credentials: Credentials, protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context with the settings of both sides, which show each other their certificates."""
    context = _new_context(protocol, protocols)
    context.verify_mode = ssl.CERT_REQUIRED
    # The federation's CA is where trust begins, also if an organisation's CA has signed its certificate.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=credentials.authority_path)
        context.load_cert_chain(credentials.certificate_path, credentials.key_path)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(
            f"The key or the certificates in {credentials.directory} cannot be used: {error}. Copy the "
            "folder that `p2pfl certs issue NAME` wrote, whole."
        ) from error
    return context


def _new_context(protocol: int, protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context with the settings of all connections."""
    context = _Context(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Identity is the key, whatever the address: certificates contain no host names to compare.
    context.check_hostname = False
    context.set_alpn_protocols(list(protocols))
    return context


async def _send_alert(sock: socket.socket, data: bytes) -> None:
    """Send *data* after a failed handshake, and give the other side a bounded time to read it."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):  # the other side may be gone; it is refused all the same
        async with asyncio.timeout(ALERT_SECONDS):
            await loop.sock_sendall(sock, data)
            sock.shutdown(socket.SHUT_WR)
            unread = MAX_DRAINED_BYTES
            while unread > 0 and (received := await loop.sock_recv(sock, 16384)):
                unread -= len(received)
