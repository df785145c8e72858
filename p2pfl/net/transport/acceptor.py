"""Accepts connections, limits the unidentified ones, and passes each to the handler of its ALPN name.

A connection is *pending* until it has passed TLS and its first frame was handled. Pending connections are
limited (see `p2pfl.net.transport.pending`), and each has a deadline, with a shorter one for its first byte.
So strangers cannot hold file descriptors or memory for long.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport import sockets
from p2pfl.net.transport.pending import PendingConnections, accept, wait_first_byte
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.net.transport.tls import authenticate, secure, server_context
from p2pfl.text import one_line
from p2pfl.wire.links import Refusal

ConnectionServer = Callable[[], Awaitable[None]]
"""Serves a connection that is not pending any more."""

AlpnHandler = Callable[[FrameStream, PeerIdentity, str], Awaitable[ConnectionServer | None]]
"""Handles the first frames of a pending connection from a peer, whose host is the last argument. Returns what
serves the connection afterwards, or None; raises `HandshakeRefused` if it refused and closed it."""


class ConnectionAcceptor:
    """The listening sockets of a node."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        handlers: Mapping[str, AlpnHandler],
        on_refusal: Callable[[str, NetworkError], None],
        is_known: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Open nothing yet; *handlers* are keyed by ALPN name.

        *on_refusal* is called with a host and the error; *is_known* says whether a host is that of a known
        node.
        """
        self._credentials = credentials
        self._settings = settings
        self._context = server_context(credentials, list(handlers))
        self._handlers = handlers
        self._on_refusal = on_refusal
        self._listening: Sequence[socket.socket] = ()
        self._is_known = is_known
        self._pending = PendingConnections(settings.max_pending, settings.max_pending_per_address)
        self._tasks = BackgroundTasks()

    def use(self, credentials: Credentials) -> None:
        """Show the renewed certificate in *credentials* in all later handshakes.

        Raises:
            CredentialsError: OpenSSL rejects the key or a certificate; those in use stay.
        """
        self._context = server_context(credentials, list(self._handlers))
        self._credentials = credentials

    def open(self, listening: Sequence[socket.socket]) -> None:
        """Accept connections on the *listening* sockets until `close`, which closes them."""
        self._listening = listening
        for one in listening:
            self._tasks.start_restarting("accepting connections", partial(accept, one, self._start))

    async def close(self) -> None:
        """Stop listening, and abort the accepted connections."""
        await self._tasks.close()
        for listening in self._listening:
            listening.close()

    def _start(self, connection: socket.socket) -> None:
        self._tasks.start(self._handle(connection))

    async def _handle(self, connection: socket.socket) -> None:
        """Handle one connection until its end."""
        try:
            host = sockets.remote_host(connection)
            sockets.set_options(connection, self._settings.silence_seconds)
        except OSError:  # it was closed already
            connection.close()
            return
        try:
            sockets.check_file_limit(connection)
        except OSError:
            connection.close()
            self._on_refusal(host, NetworkError(f"{sockets.FILES_ADVICE}."))
            return
        try:
            serve = await self._identify(connection, host)
        except NetworkError as error:
            self._on_refusal(host, error)
            return
        if serve is not None:
            await serve()

    async def _identify(self, connection: socket.socket, host: str) -> ConnectionServer | None:
        """Authenticate a pending connection, and pass it to the handler of its ALPN name."""
        with self._pending.counted(host, is_known=self._is_known(host)):
            await wait_first_byte(connection, self._settings.hello_seconds, "a p2pfl node")
            seconds = self._settings.handshake_seconds
            transport, protocol = await secure(
                connection, StreamProtocol, self._context, self._credentials, dialing=False, seconds=seconds
            )
            stream = FrameStream(transport, protocol, self._settings.max_frame_bytes)
            try:
                identity, protocol_name = authenticate(transport, self._credentials)
            except HandshakeRefused as error:
                await stream.refuse(Refusal("role", one_line(str(error))))
                raise
            try:
                return await self._handlers[protocol_name](stream, identity, host)
            except BaseException:
                stream.abort()
                raise
