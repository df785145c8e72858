"""What an accepted bulk connection is for: the dialer's first frame asks for a blob, or offers to serve."""

from __future__ import annotations

import asyncio
from functools import partial

from p2pfl.config import NetSettings
from p2pfl.errors import HandshakeRefused, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.acceptor import Serve as Served
from p2pfl.net.calls import Calls
from p2pfl.net.explain import explain
from p2pfl.net.serving import BlobServer
from p2pfl.net.stream import FrameStream
from p2pfl.wire.blobs import BlobRefusal, BlobRequest, BulkOpening, decode_opening
from p2pfl.wire.codec import bounded


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
            await self._server.refuse(stream, BlobRefusal("protocol", bounded(str(error))))
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
