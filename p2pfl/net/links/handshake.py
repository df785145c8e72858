"""Turns a TCP connection into an agreed link: TLS, identity, then HELLO, WELCOME and READY.

There is one method for each side. Both return an `EstablishedConnection`, or a `RedundantConnection` if no
link is needed, or raise `HandshakeRefused`, whose message says which side refused and why. The other side
always learns the reason: by a TLS alert until its certificate is accepted, by a REFUSAL frame afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

from p2pfl.config import PROTOCOL_VERSIONS, NetSettings
from p2pfl.errors import (
    ExcludedNodeError,
    HandshakeRefused,
    KeptOutError,
    LateClaimError,
    PeerError,
    VersionRefused,
)
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member
from p2pfl.net.links.admission import Admission, may_be_late, refuse_role
from p2pfl.net.links.peers import LocalNode
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import CONTROL_ALPN, authenticate, client_context, secure
from p2pfl.proofs import Claim
from p2pfl.text import one_line
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Hello, Introduction, Ready, Refusal, Welcome

MAX_REASON_CHARACTERS = 300
"""Limit of the `Reason` in a frame."""


class JournalClonedError(HandshakeRefused):
    """The peer has proved that this node's journal is a copy."""


class WrongNodeError(HandshakeRefused):
    """Another node than the expected one answered at an address."""


class _RefusalError(Exception):
    """A refusal by this side, to be sent to the other side."""

    def __init__(self, refusal: Refusal, node: str = "", *, is_doubtful: bool = False) -> None:
        """Refuse *node*; *is_doubtful* is whether a claim that is only late explains it."""
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.node = node
        self.is_doubtful = is_doubtful


@dataclass(frozen=True)
class EstablishedConnection:
    """A connection that both sides have agreed on as their link."""

    stream: FrameStream
    identity: PeerIdentity
    introduction: Introduction
    order: int
    """The number that the judge of the pair gave it."""

    @property
    def member(self) -> Member:
        """The peer as a voting member."""
        return Member(self.identity.node_id, self.introduction.journal)


@dataclass(frozen=True)
class RedundantConnection:
    """A connection closed without a fault: the node is linked already, or is this node itself."""

    node: str


@dataclass(frozen=True)
class OwnAddresses:
    """What this node tells peers about its own addresses."""

    advertise: tuple[str, ...]
    port: Callable[[], int]
    """Returns the port on which it listens."""


class Handshakes:
    """Performs the handshakes of a node on control connections."""

    def __init__(
        self,
        credentials: Credentials,
        local: LocalNode,
        admission: Admission,
        settings: NetSettings,
        own_addresses: OwnAddresses,
    ) -> None:
        self._credentials = credentials
        self._local = local
        self._admission = admission
        self._settings = settings
        self._own_addresses = own_addresses
        self._client = client_context(credentials, [CONTROL_ALPN])

    def use(self, credentials: Credentials) -> None:
        """Show the renewed certificate in *credentials* in all later handshakes.

        Raises:
            CredentialsError: OpenSSL rejects the key or a certificate; those in use stay.
        """
        self._client = client_context(credentials, [CONTROL_ALPN])
        self._credentials = credentials

    async def dial(
        self, connection: socket.socket, address: Address, expected: str | None
    ) -> EstablishedConnection | RedundantConnection:
        """Perform the handshake on *connection*, dialled to *address* of the node *expected* (None: any).

        Raises:
            HandshakeRefused: one side refused, or the connection broke.
            VersionRefused: the two sides have no version in common.
            JournalClonedError: the peer proved that the journal here is a copy; this node must stop.
        """
        seconds = self._settings.handshake_seconds
        transport, protocol = await secure(
            connection, StreamProtocol, self._client, self._credentials, dialing=True, seconds=seconds
        )
        stream = FrameStream(transport, protocol, self._settings.max_frame_bytes)
        return await self._conclude(stream, self._dial(stream, address, expected), dialing=True)

    async def answer(
        self, stream: FrameStream, identity: PeerIdentity
    ) -> EstablishedConnection | RedundantConnection:
        """Perform the handshake on an accepted connection, on which TLS has authenticated *identity*.

        Raises:
            HandshakeRefused: one side refused, or the connection broke.
            VersionRefused: the two sides have no version in common.
            JournalClonedError: the peer proved that the journal here is a copy; this node must stop.
        """
        return await self._conclude(stream, self._answer(stream, identity), dialing=False)

    async def _dial(
        self, stream: FrameStream, address: Address, expected: str | None
    ) -> EstablishedConnection | RedundantConnection:
        admission = self._admission
        identity, _ = authenticate(stream.transport, self._credentials)
        node = identity.node_id
        if node == self._credentials.node_id and expected is not None:
            raise WrongNodeError(
                f"This device reached itself at {address}, where node {short(expected)} was expected."
            )
        if expected is not None and node != expected:
            reason = f"node {short(expected)} was expected at {address}, but {identity} answered"
            raise _RefusalError(Refusal("wrong-node", reason))
        if refusal := refuse_role(identity):
            raise _RefusalError(refusal)
        if admission.has_connection(node):
            return RedundantConnection(node)
        await stream.send(self._hello(node))
        welcome = await stream.next()
        if isinstance(welcome, Refusal) and welcome.kind in ("self", "duplicate"):
            return RedundantConnection(node)
        if not isinstance(welcome, Welcome):
            raise self._unexpected(welcome, "WELCOME", identity)
        if refusal := admission.refuse(identity, welcome):
            raise _RefusalError(refusal, node, is_doubtful=may_be_late(refusal, welcome.claim))
        lowest, highest = PROTOCOL_VERSIONS
        if not lowest <= welcome.version <= highest:
            reason = f"protocol version {welcome.version} was chosen, but {lowest} to {highest} were offered"
            raise _RefusalError(Refusal("version", reason))
        order = self._order_as_dialer(node, welcome)
        if order is None:
            await stream.send(Refusal("duplicate", "the two nodes are linked already"))
            return RedundantConnection(node)
        with self._released_on_failure(node, order):
            await stream.send(Ready(order if admission.is_judge(node) else 0))
        return EstablishedConnection(stream, identity, welcome, order)

    async def _answer(
        self, stream: FrameStream, identity: PeerIdentity
    ) -> EstablishedConnection | RedundantConnection:
        admission, node = self._admission, identity.node_id
        if refusal := refuse_role(identity):
            raise _RefusalError(refusal)
        hello = await stream.next()
        if hello is None:  # the dialer has found that they are linked already
            return RedundantConnection(node)
        if not isinstance(hello, Hello):
            raise self._unexpected(hello, "HELLO", identity)
        refusal = admission.refuse_hello(identity, hello)
        if refusal is not None and refusal.kind in ("self", "duplicate"):
            await stream.send(refusal)
            return RedundantConnection(node)
        if refusal is not None:
            raise _RefusalError(refusal, node, is_doubtful=may_be_late(refusal, hello.claim))
        order = admission.accept(node, hello) if admission.is_judge(node) else 0
        with self._released_on_failure(node, order):
            await stream.send(self._welcome(hello, order))
            ready = await stream.next()
            if isinstance(ready, Refusal) and ready.kind == "duplicate":
                admission.release(node, order)
                return RedundantConnection(node)
            if not isinstance(ready, Ready):
                raise self._unexpected(ready, "READY", identity)
        if not admission.is_judge(node):
            order = ready.order
            if not admission.accept_numbered(node, hello, order):
                return RedundantConnection(node)
        elif not admission.is_current(node, order):
            return RedundantConnection(node)
        return EstablishedConnection(stream, identity, hello, order)

    def _order_as_dialer(self, node: str, welcome: Welcome) -> int | None:
        """Make this connection the current one and return its number; None if another one is."""
        admission = self._admission
        if admission.is_judge(node):
            return None if admission.has_connection(node) else admission.accept(node, welcome)
        return welcome.order if admission.accept_numbered(node, welcome, welcome.order) else None

    @contextlib.contextmanager
    def _released_on_failure(self, node: str, order: int) -> Iterator[None]:
        """Forget the current connection if the handshake fails."""
        try:
            yield
        except BaseException:
            self._admission.release(node, order)
            raise

    async def _conclude(
        self,
        stream: FrameStream,
        steps: Coroutine[object, object, EstablishedConnection | RedundantConnection],
        *,
        dialing: bool,
    ) -> EstablishedConnection | RedundantConnection:
        """Await *steps* in bounded time; unless a link is agreed, send the reason and close the stream."""
        try:
            async with asyncio.timeout(self._settings.handshake_seconds):
                outcome = await steps
        except _RefusalError as error:
            if error.refusal.kind == "excluded":
                await self._refuse_excluded(stream, error.refusal)
                raise ExcludedNodeError(
                    f"This device refused the other side: {error}.", error.node
                ) from error
            await stream.refuse(error.refusal)
            if error.is_doubtful:
                raise LateClaimError(f"This device refused the other side: {error}.", error.node) from error
            kinds = {"wrong-node": WrongNodeError, "version": VersionRefused}
            kind = kinds.get(error.refusal.kind, HandshakeRefused)
            raise kind(f"This device refused the other side: {error}.") from error
        except PeerError as error:
            await stream.refuse(Refusal("protocol", one_line(str(error), MAX_REASON_CHARACTERS)))
            raise HandshakeRefused(f"This device refused the other side: {error}.") from error
        except HandshakeRefused:
            await stream.finish()
            raise
        except OSError as error:
            stream.abort()
            raise HandshakeRefused(explain(error, self._credentials, dialing=dialing)) from error
        except BaseException:
            stream.abort()
            raise
        if isinstance(outcome, RedundantConnection):
            await stream.finish()
        return outcome

    async def _refuse_excluded(self, stream: FrameStream, refusal: Refusal) -> None:
        """Send *refusal*; the other side may answer with a later statement, by which it is not kept out."""
        with contextlib.suppress(OSError, PeerError, TimeoutError):  # it is refused all the same
            await stream.send(refusal)
            async with asyncio.timeout(self._settings.hello_seconds):
                answer = await stream.next()
            if isinstance(answer, Refusal) and answer.kind == "excluded":
                self._admission.membership.refused(answer)
        await stream.finish()

    def _unexpected(self, frame: ControlFrame | None, wanted: str, identity: PeerIdentity) -> Exception:
        """Return the exception for *frame* (None: the end of the stream), received instead of *wanted*."""
        if isinstance(frame, Refusal):
            is_proved = frame.kind == "cloned" and self._admission.proves_clone(frame)
            if frame.kind == "excluded" and (answer := self._admission.membership.refused(frame)):
                return _RefusalError(answer)
            said = f"{identity} refused this device: {one_line(frame.reason, MAX_REASON_CHARACTERS)}."
            own = self._credentials.node_id
            if frame.kind == "excluded" and self._admission.membership.is_banned(own):
                return KeptOutError(said)
            if is_proved:
                return JournalClonedError(said)
            if frame.kind == "cloned":
                return LateClaimError(
                    f"{said} It has not proved that, so this node continues.", identity.node_id
                )
            return (VersionRefused if frame.kind == "version" else HandshakeRefused)(said)
        if frame is None:
            return HandshakeRefused(
                f"{identity} closed the connection before its {wanted}; its log may say more."
            )
        reason = f"it sent {type(frame).__name__.upper()} instead of {wanted}"
        return _RefusalError(Refusal("protocol", reason))

    def _hello(self, node: str) -> Hello:
        return Hello(*self._introduction(), *PROTOCOL_VERSIONS, *self._admission.seen(node))

    def _welcome(self, hello: Hello, order: int) -> Welcome:
        version = self._admission.version_with(hello)
        assert version is not None, "a HELLO without a common version was refused"
        return Welcome(*self._introduction(), version, order)

    def _introduction(self) -> tuple[str, Claim, int, tuple[str, ...]]:
        """Return the fields of an `Introduction` of this node."""
        claim = self._local.claim(self._credentials.node_id)
        return self._local.version, claim, self._own_addresses.port(), self._own_addresses.advertise
