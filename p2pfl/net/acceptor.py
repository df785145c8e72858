"""The listening side: accepts connections, bounds the nameless ones, and sorts them by purpose.

Until a connection has passed TLS and said what it wants it is *pending*. There is a limit on pending
connections in all and from one address, and a deadline for each: strangers can take neither file descriptors
nor memory for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net import sockets
from p2pfl.net.handshake import dismiss
from p2pfl.net.stream import FrameStream, StreamProtocol
from p2pfl.net.tasks import Tasks
from p2pfl.net.tls import authenticate, secure, server_context
from p2pfl.wire.codec import bounded
from p2pfl.wire.links import Refusal

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.5
"""After a failed accept, usually for want of file descriptors: time for some to be given back."""

Serve = Callable[[], Awaitable[None]]
"""What goes on with a connection once it is not pending any more."""


Purpose = Callable[[FrameStream, PeerIdentity, str], Awaitable[Serve | None]]
"""Hears what the peer wants, which came from the host named, while the connection is pending. Returns what to
go on with, None for nothing; raises `HandshakeRefused` when it was refused and is closed."""


class Acceptor:
    """The listening sockets of a node."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        purposes: Mapping[str, Purpose],
        refused: Callable[[str, str], None],
    ) -> None:
        """Open nothing yet; *purposes* are what connections may be for, by their ALPN names."""
        self._credentials = credentials
        self._settings = settings
        self._context = server_context(credentials, list(purposes))
        self._purposes = purposes
        self._refused = refused
        self._listening: Sequence[socket.socket] = ()
        self._pending: Counter[str] = Counter()
        self._tasks = Tasks()

    def open(self, listening: Sequence[socket.socket]) -> None:
        """Accept connections on the *listening* sockets from now on; they are closed with this object."""
        self._listening = listening
        for one in listening:
            self._tasks.start_lasting("accepting connections", partial(self._accept, one))

    async def close(self) -> None:
        """Stop listening, and cut the connections that came in."""
        await self._tasks.close()
        for listening in self._listening:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            self._tasks.start(self._handle(connection))

    async def _handle(self, connection: socket.socket) -> None:
        """See one connection through to its end."""
        try:
            host = sockets.remote_host(connection)
            sockets.tune(connection, self._settings.silence_seconds)
        except OSError:  # it was gone before it was looked at
            connection.close()
            return
        try:
            sockets.check_room(connection)
        except OSError:
            connection.close()
            self._refused(host, f"{sockets.FILES_ADVICE}.")
            return
        try:
            serve = await self._hear(connection, host)
        except (HandshakeRefused, NetworkError) as error:
            self._refused(host, str(error))
            return
        if serve is not None:
            await serve()

    async def _hear(self, connection: socket.socket, host: str) -> Serve | None:
        """Take a pending connection as far as the peer's first words."""
        with self._counted(connection, host):
            transport, protocol = await secure(
                connection,
                StreamProtocol,
                self._context,
                self._credentials,
                dialing=False,
                seconds=self._settings.handshake_seconds,
            )
            stream = FrameStream(transport, protocol, self._settings.max_frame_bytes)
            try:
                identity, purpose = authenticate(transport, self._credentials)
            except HandshakeRefused as error:
                await dismiss(stream, Refusal("role", bounded(str(error))))
                raise
            return await self._purposes[purpose](stream, identity, host)

    @contextlib.contextmanager
    def _counted(self, connection: socket.socket, host: str) -> Iterator[None]:
        """Count a connection as pending.

        Raises:
            NetworkError: there are too many; it is closed.
        """
        if self._pending.total() >= self._settings.max_pending:
            connection.close()
            raise NetworkError(
                f"More than {self._settings.max_pending} connections have not said yet who they are."
            )
        if self._pending[host] >= self._settings.max_pending_per_address:
            connection.close()
            raise NetworkError(
                f"More than {self._settings.max_pending_per_address} connections from this address "
                "have not said yet who they are."
            )
        self._pending[host] += 1
        try:
            yield
        finally:
            self._pending[host] -= 1
            if not self._pending[host]:
                del self._pending[host]
