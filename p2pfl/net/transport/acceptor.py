"""Accepts connections, limits the unidentified ones, and passes each to the handler of its ALPN name.

A connection is *pending* until it has passed TLS and its first frame was handled. Pending connections are
limited in total and for each source address, and each has a deadline, with a shorter one for its first byte.
So strangers cannot hold file descriptors or memory for long. Nor can they lock nodes out: beyond the limit,
the oldest pending connection of the address with most of them is closed, and connections from addresses of
known nodes are counted apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport import sockets
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.net.transport.tls import authenticate, secure, server_context
from p2pfl.text import one_line
from p2pfl.wire.links import Refusal

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.5
"""Delay after a failed accept, which usually lacks file descriptors, until some are free again."""

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
        self._pending: list[_PendingConnection] = []
        """Oldest first."""
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
            self._tasks.start_restarting("accepting connections", partial(self._accept, one))

    async def close(self) -> None:
        """Stop listening, and abort the accepted connections."""
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
        with self._counted(host):
            try:
                await self._first_byte(connection)
            except BaseException:
                connection.close()
                raise
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

    async def _first_byte(self, connection: socket.socket) -> None:
        """Wait for the first byte on *connection*: a dialer sends it at once.

        Raises:
            HandshakeRefused: none arrived in time.
        """
        try:
            async with asyncio.timeout(self._settings.hello_seconds):
                await sockets.wait_readable(connection)
        except TimeoutError:
            raise HandshakeRefused(
                f"The other side connected and sent nothing for {self._settings.hello_seconds:g} s: it did "
                "not answer in time, or it is not a p2pfl node."
            ) from None

    @contextlib.contextmanager
    def _counted(self, host: str) -> Iterator[None]:
        """Count the connection of this task as pending; evict another one if there are too many.

        Raises:
            NetworkError: this connection was evicted.
        """
        task = asyncio.current_task()
        assert task is not None, "a connection is handled in a task"
        connection = _PendingConnection(host, self._is_known(host), task)
        self._make_room(connection)
        self._pending.append(connection)
        try:
            yield
        except asyncio.CancelledError:
            if not connection.evicted_for:
                raise
            task.uncancel()
            raise NetworkError(connection.evicted_for) from None
        finally:
            self._pending.remove(connection)

    def _make_room(self, newcomer: _PendingConnection) -> None:
        """Evict one pending connection if *newcomer* exceeds a limit."""
        pending = [one for one in self._pending if not one.evicted_for]
        same = [one for one in pending if one.host == newcomer.host]
        if len(same) >= self._settings.max_pending_per_address:
            same[0].evict(
                f"More than {self._settings.max_pending_per_address} connections from this address "
                "have not identified themselves yet."
            )
            return
        others = [one for one in pending if one.is_known == newcomer.is_known]
        if len(others) >= self._settings.max_pending:
            count = Counter(one.host for one in others)
            most = max(count.values())
            oldest = next(one for one in others if count[one.host] == most)
            oldest.evict(
                f"More than {self._settings.max_pending} connections have not identified themselves yet."
            )


@dataclass
class _PendingConnection:
    """A pending connection."""

    host: str
    is_known: bool
    """Whether it comes from the address of a known node."""
    task: asyncio.Task[None]
    evicted_for: str = ""
    """Why it was closed; empty while it is pending."""

    def evict(self, reason: str) -> None:
        self.evicted_for = reason
        self.task.cancel()
