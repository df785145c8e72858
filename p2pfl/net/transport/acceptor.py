"""The listening side: accepts connections, bounds the nameless ones, and sorts them by purpose.

Until a connection has passed TLS and said what it wants it is *pending*. There is a limit on pending
connections in all and from one address, and a deadline for each, a short one for its first byte: strangers
can take neither file descriptors nor memory for long. Nor can they close the door: where there are too
many, the oldest one from the address with most of them makes room, and addresses where nodes are known to
be do not count among the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
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
from p2pfl.net.transport.tasks import Tasks
from p2pfl.net.transport.tls import authenticate, secure, server_context
from p2pfl.text import one_line
from p2pfl.wire.links import Refusal

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.5
"""After a failed accept, usually for want of file descriptors: time for some to be given back."""

Serve = Callable[[], Awaitable[None]]
"""What goes on with a connection once it is not pending any more."""


Purpose = Callable[[FrameStream, PeerIdentity, str], Awaitable[Serve | None]]
"""Hears what the peer wants, which came from the host named, while the connection is pending. Returns what to
go on with, None for nothing; raises `HandshakeRefused` when it was refused and is closed."""


class ConnectionAcceptor:
    """The listening sockets of a node."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        purposes: Mapping[str, Purpose],
        refused: Callable[[str, str], None],
        is_known: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Open nothing yet; *purposes* are what connections may be for, by their ALPN names.

        *is_known* says whether nodes are known at an address: strangers do not take their places.
        """
        self._credentials = credentials
        self._settings = settings
        self._context = server_context(credentials, list(purposes))
        self._purposes = purposes
        self._refused = refused
        self._listening: Sequence[socket.socket] = ()
        self._is_known = is_known
        self._pending: list[_Place] = []
        """The oldest first."""
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
        with self._counted(host):
            try:
                await self._first_byte(connection)
            except BaseException:
                connection.close()
                raise
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
                await stream.refuse(Refusal("role", one_line(str(error))))
                raise
            try:
                return await self._purposes[purpose](stream, identity, host)
            except BaseException:
                stream.abort()
                raise

    async def _first_byte(self, connection: socket.socket) -> None:
        """Wait until *connection* says something: a dialer speaks first, and at once.

        Raises:
            HandshakeRefused: it said nothing in time.
        """
        if sys.platform == "win32":  # its event loop cannot be asked
            return
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(connection, _wake, readable)
        try:
            async with asyncio.timeout(self._settings.hello_seconds):
                await readable
        except TimeoutError:
            raise HandshakeRefused(
                f"The other side connected and said nothing for {self._settings.hello_seconds:g} s: it did "
                "not answer in time, or it is no p2pfl node."
            ) from None
        finally:
            loop.remove_reader(connection)

    @contextlib.contextmanager
    def _counted(self, host: str) -> Iterator[None]:
        """Count the connection of this task as pending, and make room for it.

        Raises:
            NetworkError: another one took its place.
        """
        task = asyncio.current_task()
        assert task is not None, "a connection is handled in a task"
        place = _Place(host, self._is_known(host), task)
        self._make_room(place)
        self._pending.append(place)
        try:
            yield
        except asyncio.CancelledError:
            if not place.evicted_for:
                raise
            task.uncancel()
            raise NetworkError(place.evicted_for) from None
        finally:
            self._pending.remove(place)

    def _make_room(self, newcomer: _Place) -> None:
        """End the oldest pending connection there is too much of where *newcomer* is one too many."""
        pending = [one for one in self._pending if not one.evicted_for]
        same = [one for one in pending if one.host == newcomer.host]
        if len(same) >= self._settings.max_pending_per_address:
            same[0].evict(
                f"More than {self._settings.max_pending_per_address} connections from this address "
                "have not said yet who they are."
            )
            return
        others = [one for one in pending if one.is_known == newcomer.is_known]
        if len(others) >= self._settings.max_pending:
            count = Counter(one.host for one in others)
            most = max(count.values())
            oldest = next(one for one in others if count[one.host] == most)
            oldest.evict(
                f"More than {self._settings.max_pending} connections have not said yet who they are."
            )


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@dataclass
class _Place:
    """A pending connection."""

    host: str
    is_known: bool
    """Whether a node is known to be at that address."""
    task: asyncio.Task[None]
    evicted_for: str = ""
    """Why it had to make room."""

    def evict(self, reason: str) -> None:
        self.evicted_for = reason
        self.task.cancel()
