"""Calling a holder that cannot be dialled: the puller's side.

A call goes over the link. The holder dials, shows its certificate as on any connection, and returns the
call's ticket; only then are blobs asked for on that connection. A ticket is good once, for a short time, and
for one node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk.dialler import BulkConnection, BulkDialler
from p2pfl.net.bulk.holders import Barred
from p2pfl.net.bulk.server import BlobServer
from p2pfl.net.transport.acceptor import Serve as Served
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import Tasks
from p2pfl.text import one_line
from p2pfl.wire.blobs import (
    MAX_BULK_FRAME_BYTES,
    BlobRefusal,
    BlobRequest,
    BulkOpening,
    Serve,
    decode_opening,
    encode_serve,
)
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
            arrival.set_exception(NetworkError(f"it could not dial back, since {one_line(failed.reason)}"))

    def forget(self, node: str) -> None:
        """Give up what *node* was called for: the link to it has ended."""
        for called, arrival in self._open.values():
            if called == node and not arrival.done():
                arrival.set_exception(NetworkError("the link to it ended before it dialled back"))


logger = logging.getLogger(__name__)

MAX_DIALS = 4
"""For one caller at a time: as many blobs as it pulls at a time by default."""

LEAST_REST_SECONDS = 1.0
"""After a failed dial, before the same caller's next one."""

MAX_REASON_CHARACTERS = 160
"""Of the reason for people at the caller, which puts it into a sentence of its own."""


class CallAnswerer:
    """Dials who called, and serves."""

    def __init__(
        self,
        dialler: BulkDialler,
        server: BlobServer,
        addresses: Callable[[str], Sequence[Address]],
        send: Callable[[str, CallFailed], bool],
    ) -> None:
        self._dialler = dialler
        self._server = server
        self._addresses = addresses
        self._send = send
        self._dialling: Counter[str] = Counter()
        self._barred = Barred(LEAST_REST_SECONDS)
        self._tasks = Tasks()

    def called(self, node: str, call: Call) -> None:
        """Dial *node*, which is linked; tell it if that does not work or is not done."""
        if (reason := self._turned_away(node)) is not None:
            self._refuse(node, call, reason)
            return
        self._dialling[node] += 1
        self._tasks.start(self._answer(node, call))

    def linked(self, node: str) -> None:
        """Take note of a new link to *node*: what did not work before may work now."""
        self._barred.forget(node)

    async def close(self) -> None:
        """Dial and serve no more."""
        await self._tasks.close()

    def _turned_away(self, node: str) -> str | None:
        """Return why *node* is not dialled now."""
        if self._dialling[node] >= MAX_DIALS:
            return f"{MAX_DIALS} dials to it are under way"
        if self._server.is_full:
            return "it serves as many connections as it can"
        return self._barred.reason(node, asyncio.get_running_loop().time())

    async def _answer(self, node: str, call: Call) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            transport, protocol, identity = await self._dialler.dial(
                node, self._addresses(node), StreamProtocol
            )
        except NetworkError as error:
            reason = f"the caller {error}"
            self._barred.failed(node, reason, began, clock())
            self._refuse(node, call, reason)
            return
        finally:
            self._dialling[node] -= 1
            if not self._dialling[node]:
                del self._dialling[node]
        stream = FrameStream(transport, protocol, MAX_BULK_FRAME_BYTES)
        with contextlib.suppress(OSError):  # it was closed: the caller does not wait any more
            await stream.write(encode_serve(Serve(call.ticket)))
            await self._server.serve_called(stream, identity)

    def _refuse(self, node: str, call: Call, reason: str) -> None:
        logger.debug("%s called for a bulk connection and does not get one: %s", node, reason)
        self._send(node, CallFailed(call.ticket, one_line(reason, MAX_REASON_CHARACTERS)))


class BulkDoor:
    """Sends accepted bulk connections to the server of blobs, or to who waits for a holder to dial back."""

    def __init__(
        self, credentials: Credentials, settings: NetSettings, server: BlobServer, calls: Calls
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._server = server
        self._calls = calls

    async def hear(self, stream: FrameStream, identity: PeerIdentity, _address: str) -> Served | None:
        """Read the first frame on an accepted bulk connection; return what serves it.

        None when the connection was closed, or is used for pulling.

        Raises:
            HandshakeRefused: no such frame came, or one that is none.
        """
        try:
            opening = await self._opening(stream)
        except PeerError as error:
            await self._server.refuse(stream, BlobRefusal("protocol", one_line(str(error))))
            raise HandshakeRefused(f"This device refused {identity}: {error}.") from error
        except OSError as error:
            stream.abort()
            raise HandshakeRefused(explain(error, self._credentials, dialing=False)) from error
        except BaseException:
            stream.abort()
            raise
        match opening:
            case None:
                await stream.finish()
                return None
            case BlobRequest():
                return partial(self._server.serve, stream, identity, opening)
        self._calls.take(stream, identity, opening)
        return None

    async def _opening(self, stream: FrameStream) -> BulkOpening | None:
        async with asyncio.timeout(self._settings.handshake_seconds):
            body = await stream.next_body()
        return None if body is None else decode_opening(body)
