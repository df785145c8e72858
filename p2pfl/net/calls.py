"""Calling a holder that cannot be dialled: the puller's side.

A call goes over the link. The holder dials, shows its certificate as on any connection, and returns the
call's ticket; only then are blobs asked for on that connection. A ticket is good once, for a short time, and
for one node.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError, PeerError
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk import BulkConnection
from p2pfl.net.receiver import Receiver
from p2pfl.net.stream import FrameStream
from p2pfl.wire.blobs import Serve
from p2pfl.wire.codec import bounded
from p2pfl.wire.links import Call, CallFailed

logger = logging.getLogger(__name__)

PATIENCE = 1.5
"""Times `dial_seconds`: the holder needs as long as that to find out that it cannot dial either."""

_Open = tuple[str, "asyncio.Future[BulkConnection]"]


class Calls:
    """The calls of one node that are not answered yet; never more than it pulls blobs at a time."""

    def __init__(self, send: Callable[[str, Call], bool], settings: NetSettings) -> None:
        self._send = send
        self._seconds = PATIENCE * settings.dial_seconds
        self._open: dict[str, _Open] = {}
        """By ticket."""

    async def call(self, node: str) -> BulkConnection:
        """Return a connection that *node* made because it was called.

        Raises:
            NetworkError: it has not come; half a sentence says why.
        """
        ticket = secrets.token_hex(16)
        arrival: asyncio.Future[BulkConnection] = asyncio.get_running_loop().create_future()
        self._open[ticket] = (node, arrival)
        connection = None
        try:
            if not self._send(node, Call(ticket)):
                raise NetworkError("there is no link over which it could be asked to dial back")
            async with asyncio.timeout(self._seconds):
                connection = await arrival
        except TimeoutError as error:
            raise NetworkError("it did not dial back in time") from error
        finally:
            del self._open[ticket]
            is_unused = connection is None and arrival.done() and not arrival.cancelled()
            if is_unused and arrival.exception() is None:
                arrival.result().transport.abort()
        return connection

    def take(self, stream: FrameStream, identity: PeerIdentity, serve: Serve) -> None:
        """Take a connection on which *identity* offers to serve, or close it if it is not waited for.

        Raises:
            HandshakeRefused: the offer is not one this node can have called for.
        """
        node, arrival = self._open.get(serve.ticket, (identity.node_id, None))
        if node != identity.node_id:
            stream.abort()
            raise HandshakeRefused(f"This device refused {identity}: another node was called to serve.")
        if arrival is None or arrival.done():  # it comes too late, or was never called
            logger.debug("a bulk connection that %s offered is not waited for", identity)
            stream.abort()
            return
        receiver = Receiver()
        try:
            stream.release(receiver)
        except PeerError as error:
            stream.abort()
            raise HandshakeRefused(f"This device refused {identity}: {error}.") from error
        receiver.meter = stream.meter
        arrival.set_result(BulkConnection(node, stream.transport, receiver))

    def failed(self, node: str, failed: CallFailed) -> None:
        """Take note that *node* could not dial."""
        called, arrival = self._open.get(failed.ticket, ("", None))
        if called == node and arrival is not None and not arrival.done():
            arrival.set_exception(NetworkError(f"it could not dial back, since {bounded(failed.reason)}"))

    def forget(self, node: str) -> None:
        """Give up what *node* was called for: the link to it has ended."""
        for called, arrival in self._open.values():
            if called == node and not arrival.done():
                arrival.set_exception(NetworkError("the link to it ended before it dialled back"))
