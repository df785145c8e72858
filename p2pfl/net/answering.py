"""Answering calls: the holder's side of a bulk connection that the puller cannot make.

Only a linked node's call comes here. It makes this node dial that one, at the addresses this node knows for
it, and serve blobs as on any bulk connection. A peer can tell any address as its own, so dials that fail are
kept rare: nobody makes this node knock on strangers' doors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from p2pfl.errors import NetworkError
from p2pfl.net.addresses import Address
from p2pfl.net.barred import Barred
from p2pfl.net.bulk import BulkDialler
from p2pfl.net.serving import BlobServer
from p2pfl.net.stream import FrameStream, StreamProtocol
from p2pfl.net.tasks import Tasks
from p2pfl.wire.blobs import MAX_BULK_FRAME_BYTES, Serve, encode_serve
from p2pfl.wire.codec import bounded
from p2pfl.wire.links import Call, CallFailed

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
        self._send(node, CallFailed(call.ticket, bounded(reason, MAX_REASON_CHARACTERS)))
