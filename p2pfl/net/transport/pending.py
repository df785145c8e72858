"""Accepted connections that have not identified themselves yet: how many there may be, and how long.

They are limited in total and for each source address, so that strangers cannot hold file descriptors or
memory. Nor can strangers lock others out: beyond the limit, the oldest pending connection of the address
with most of them is closed, and connections from addresses of known nodes are counted apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.transport import sockets

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.5
"""Delay after a failed accept, which usually lacks file descriptors, until some are free again."""


async def accept(listening: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    """Pass each connection that *listening* accepts to *handle*, without end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listening)
        except OSError as error:
            logger.warning("a connection could not be accepted: %s", error)
            await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
            continue
        handle(connection)


async def wait_first_byte(connection: socket.socket, seconds: float, expected: str) -> None:
    """Wait for the first byte on *connection*, and close it if none comes: a dialer sends it at once.

    Raises:
        HandshakeRefused: none arrived within *seconds*; it may be something else than *expected*.
    """
    try:
        async with asyncio.timeout(seconds):
            await sockets.wait_readable(connection)
    except BaseException as error:
        connection.close()
        if not isinstance(error, TimeoutError):
            raise
        raise HandshakeRefused(
            f"The other side connected and sent nothing for {seconds:g} s: it did not answer in time, or "
            f"it is not {expected}."
        ) from None


class PendingConnections:
    """Counts the pending connections of a listener, each of which is handled in a task of its own."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._pending: list[_PendingConnection] = []
        """Oldest first."""

    @contextlib.contextmanager
    def counted(self, host: str, *, is_known: bool = False) -> Iterator[None]:
        """Count the connection of this task as pending; evict another one if there are too many.

        *is_known* says whether *host*, its source address, is that of a known node.

        Raises:
            NetworkError: this connection was evicted.
        """
        task = asyncio.current_task()
        assert task is not None, "a connection is handled in a task"
        connection = _PendingConnection(host, is_known, task)
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
        if len(same) >= self._most_per_address:
            same[0].evict(
                f"More than {self._most_per_address} connections from this address have not identified "
                "themselves yet."
            )
            return
        others = [one for one in pending if one.is_known == newcomer.is_known]
        if len(others) >= self._most:
            count = Counter(one.host for one in others)
            most = max(count.values())
            oldest = next(one for one in others if count[one.host] == most)
            oldest.evict(f"More than {self._most} connections have not identified themselves yet.")


@dataclass
class _PendingConnection:
    """A pending connection."""

    host: str
    is_known: bool
    """Whether it comes from the address of a known node."""
    task: asyncio.Task[Any]
    evicted_for: str = ""
    """Why it was closed; empty while it is pending."""

    def evict(self, reason: str) -> None:
        self.evicted_for = reason
        self.task.cancel()
