"""Dial-back: a holder that the puller cannot dial is asked over the link to dial the puller.

The puller sends a CALL frame with a ticket (`DialBackRequests`). The holder dials, authenticates as on any
bulk connection, and sends the ticket in its first frame (`DialBackResponder`); then the puller requests blobs
on that connection. A ticket is valid once, for a short time, and for one node.

`BulkDispatcher` reads the first frame of an accepted bulk connection: a blob request, or a ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import assert_never

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, NetworkError, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk.dialler import BulkConnection, BulkDialler
from p2pfl.net.bulk.holders import DialBackoff
from p2pfl.net.bulk.server import BlobServer
from p2pfl.net.transport.acceptor import ConnectionServer
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.receiver import Receiver
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.text import one_line
from p2pfl.wire.blobs import (
    MAX_BULK_FRAME_BYTES,
    BlobRefusal,
    BlobRequest,
    BulkOpening,
    MeasureRequest,
    Serve,
    decode_opening,
    encode_serve,
)
from p2pfl.wire.links import Call, CallFailed

logger = logging.getLogger(__name__)

TIMEOUT_FACTOR = 1.5
"""Timeout of a dial-back, in `dial_seconds`: the holder needs that long to find out that its dial fails."""

MAX_DIALS = 4
"""Simultaneous dial-backs for one puller: as many as it pulls blobs at a time by default."""

MIN_BACKOFF_SECONDS = 1.0
"""After a failed dial-back, before the next one for the same puller."""

MAX_REASON_CHARACTERS = 160
"""Limit of the reason in CALL-FAILED, which the puller puts into a longer sentence."""


class DialBackRequests:
    """The unanswered dial-back requests of a puller; never more than it pulls blobs at a time."""

    def __init__(self, send: Callable[[str, Call], bool], settings: NetSettings) -> None:
        self._send = send
        self._seconds = TIMEOUT_FACTOR * settings.dial_seconds
        self._open: dict[str, tuple[str, asyncio.Future[BulkConnection]]] = {}
        """Node id and connection, by ticket."""

    async def connect(self, node: str) -> BulkConnection:
        """Ask *node* to dial back; return the connection that it makes.

        Raises:
            NetworkError: it made none; the message is half a sentence.
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

    def accept(self, stream: FrameStream, identity: PeerIdentity, serve: Serve) -> None:
        """Take a connection on which *identity* sent a ticket; close it if the ticket is not open.

        Raises:
            HandshakeRefused: the ticket was issued to another node, or bytes arrived after it.
        """
        node, arrival = self._open.get(serve.ticket, (identity.node_id, None))
        if node != identity.node_id:
            stream.abort()
            raise HandshakeRefused(f"This device refused {identity}: another node was asked to dial back.")
        if arrival is None or arrival.done():  # it is late, or was never asked
            logger.debug("%s dialled back with a ticket that is not open", identity)
            stream.abort()
            return
        receiver = Receiver(stream.meter)
        try:
            stream.release(receiver)
        except PeerError as error:
            stream.abort()
            raise HandshakeRefused(f"This device refused {identity}: {error}.") from error
        arrival.set_result(BulkConnection(node, stream.transport, receiver))

    def failed(self, node: str, failed: CallFailed) -> None:
        """Fail the request with the ticket in *failed*: *node* could not dial back."""
        asked, arrival = self._open.get(failed.ticket, ("", None))
        if asked == node and arrival is not None and not arrival.done():
            arrival.set_exception(NetworkError(f"it could not dial back, since {one_line(failed.reason)}"))

    def cancel(self, node: str) -> None:
        """Fail all requests to *node*: the link to it has ended."""
        for asked, arrival in self._open.values():
            if asked == node and not arrival.done():
                arrival.set_exception(NetworkError("the link to it ended before it dialled back"))


class DialBackResponder:
    """Dials back to linked pullers, and serves blobs on those connections.

    It dials only the addresses this node knows for the puller. A peer can announce any address as its own, so
    failed dials have a back-off: no peer can make this node attack a third party.
    """

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
        self._backoff = DialBackoff(MIN_BACKOFF_SECONDS)
        self._tasks = BackgroundTasks()

    def requested(self, node: str, call: Call) -> None:
        """Dial back to *node*, which is linked; send CALL-FAILED if that fails or is refused."""
        if (reason := self._refusal(node)) is not None:
            self._refuse(node, call, reason)
            return
        self._dialling[node] += 1
        self._tasks.start(self._answer(node, call))

    def linked(self, node: str) -> None:
        """Try *node* again at once: there is a new link to it."""
        self._backoff.forget(node)

    async def close(self) -> None:
        """Stop dialling back and serving."""
        await self._tasks.close()

    def _refusal(self, node: str) -> str | None:
        """Return why *node* is not dialled now, None if it is."""
        if self._dialling[node] >= MAX_DIALS:
            return f"{MAX_DIALS} dials to it are under way"
        if self._server.is_full:
            return "it serves as many connections as it can"
        return self._backoff.reason(node, asyncio.get_running_loop().time())

    async def _answer(self, node: str, call: Call) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            transport, protocol, identity = await self._dialler.dial(
                node, self._addresses(node), StreamProtocol
            )
        except NetworkError as error:
            reason = f"the puller {error}"
            self._backoff.failed(node, reason, began, clock())
            self._refuse(node, call, reason)
            return
        finally:
            self._dialling[node] -= 1
            if not self._dialling[node]:
                del self._dialling[node]
        stream = FrameStream(transport, protocol, MAX_BULK_FRAME_BYTES)
        with contextlib.suppress(OSError):  # the puller has closed it: it does not wait any more
            await stream.write(encode_serve(Serve(call.ticket)))
            await self._server.serve_dialled_back(stream, identity)

    def _refuse(self, node: str, call: Call, reason: str) -> None:
        logger.debug("no dial-back for %s: %s", node, reason)
        self._send(node, CallFailed(call.ticket, one_line(reason, MAX_REASON_CHARACTERS)))


class BulkDispatcher:
    """Passes accepted bulk connections to the blob server, or to the dial-back request they answer."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        server: BlobServer,
        dial_backs: DialBackRequests,
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._server = server
        self._dial_backs = dial_backs

    async def dispatch(
        self, stream: FrameStream, identity: PeerIdentity, _address: str
    ) -> ConnectionServer | None:
        """Read the first frame of an accepted bulk connection; return what serves it.

        Return None if the connection was closed, or is used for pulling.

        Raises:
            HandshakeRefused: no frame came, or an invalid one.
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
            case BlobRequest() | MeasureRequest():
                return partial(self._server.serve, stream, identity, opening)
            case Serve():
                self._dial_backs.accept(stream, identity, opening)
                return None
        assert_never(opening)

    async def _opening(self, stream: FrameStream) -> BulkOpening | None:
        async with asyncio.timeout(self._settings.handshake_seconds):
            body = await stream.next_body()
        return None if body is None else decode_opening(body)
