"""From a TCP socket to a link: TLS, who is there, HELLO, WELCOME, READY.

One method a side. Both end with an `Agreed`, with `Unneeded` where all is well but no link comes of it, or
with a `HandshakeRefused` whose message says which side refused and why. The other side is always told: by a
TLS alert until its certificate has passed, by a REFUSAL frame from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass

from p2pfl.config import PROTOCOL_VERSIONS, NetSettings
from p2pfl.errors import HandshakeRefused, PeerError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.keys import short
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member
from p2pfl.net.links.admission import Admission, refuse_role
from p2pfl.net.links.peers import Local
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import CONTROL_ALPN, authenticate, client_context, secure
from p2pfl.text import one_line
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Hello, Introduction, Ready, Refusal, Welcome

MAX_REASON_CHARACTERS = 300
"""Of the `Reason` in a frame."""


class Disowned(HandshakeRefused):
    """The other side has proved that this node's journal is a copy."""


class WrongNode(HandshakeRefused):
    """Another node answered at an address than the one expected there."""


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The refusal that the other side is to be told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True)
class Agreed:
    """A connection that both sides let become their link."""

    stream: FrameStream
    identity: PeerIdentity
    words: Introduction
    order: int
    """Its number, from the judge of the pair."""

    @property
    def member(self) -> Member:
        """Who votes at the other end."""
        return Member(self.identity.node_id, self.words.journal)


@dataclass(frozen=True)
class Unneeded:
    """A connection closed without anybody's fault: the node is linked already, or is this node itself."""

    node: str
    is_self: bool


@dataclass
class Reachable:
    """What this node tells others about reaching it."""

    advertise: tuple[str, ...]
    port: int = 0
    """Where it listens; set when it does."""


class Handshakes:
    """All handshakes of a node, on control connections."""

    def __init__(
        self,
        credentials: Credentials,
        local: Local,
        admission: Admission,
        settings: NetSettings,
        reachable: Reachable,
    ) -> None:
        self._credentials = credentials
        self._local = local
        self._admission = admission
        self._settings = settings
        self._reachable = reachable
        self._client = client_context(credentials, [CONTROL_ALPN])

    async def dial(
        self, connection: socket.socket, address: Address, expected: str | None
    ) -> Agreed | Unneeded:
        """Make a link of *connection*, dialled to *address*, where *expected* (None: anybody) should answer.

        Raises:
            HandshakeRefused: one side refused, or the connection broke; `Disowned` where this node must stop.
        """
        transport, protocol = await secure(
            connection,
            StreamProtocol,
            self._client,
            self._credentials,
            dialing=True,
            seconds=self._settings.handshake_seconds,
        )
        stream = FrameStream(transport, protocol, self._settings.max_frame_bytes)
        return await self._conclude(stream, self._dial(stream, address, expected), dialing=True)

    async def answer(self, stream: FrameStream, identity: PeerIdentity) -> Agreed | Unneeded:
        """Make a link of an accepted connection on which TLS has shown *identity*.

        Raises:
            HandshakeRefused: one side refused, or the connection broke; `Disowned` where this node must stop.
        """
        return await self._conclude(stream, self._answer(stream, identity), dialing=False)

    async def _dial(self, stream: FrameStream, address: Address, expected: str | None) -> Agreed | Unneeded:
        admission = self._admission
        identity, _ = authenticate(stream.transport, self._credentials)
        node = identity.node_id
        if node == self._credentials.node_id and expected is not None:
            raise WrongNode(
                f"This device met itself at {address}, where node {short(expected)} was expected."
            )
        if expected is not None and node != expected:
            reason = f"node {short(expected)} was expected at {address}, but {identity} answered"
            raise _Refused(Refusal("wrong-node", reason))
        if refusal := refuse_role(identity):
            raise _Refused(refusal)
        if admission.holds(node):
            return Unneeded(node, is_self=False)
        await stream.send(self._hello(node))
        welcome = await stream.next()
        if isinstance(welcome, Refusal) and welcome.kind in ("self", "duplicate"):
            return Unneeded(node, is_self=welcome.kind == "self")
        if not isinstance(welcome, Welcome):
            raise self._unexpected(welcome, "WELCOME", identity)
        if refusal := admission.refuse(identity, welcome):
            raise _Refused(refusal)
        lowest, highest = PROTOCOL_VERSIONS
        if not lowest <= welcome.version <= highest:
            reason = f"protocol version {welcome.version} was chosen where {lowest} to {highest} were offered"
            raise _Refused(Refusal("version", reason))
        order = self._order_as_dialer(node, welcome)
        if order is None:
            await stream.send(Refusal("duplicate", "the two nodes are linked already"))
            return Unneeded(node, is_self=False)
        with self._released_on_failure(node, order):
            await stream.send(Ready(order if admission.is_judge(node) else 0))
        return Agreed(stream, identity, welcome, order)

    async def _answer(self, stream: FrameStream, identity: PeerIdentity) -> Agreed | Unneeded:
        admission, node = self._admission, identity.node_id
        if refusal := refuse_role(identity):
            raise _Refused(refusal)
        hello = await stream.next()
        if hello is None:  # the dialer has found that the two are linked already
            return Unneeded(node, is_self=False)
        if not isinstance(hello, Hello):
            raise self._unexpected(hello, "HELLO", identity)
        refusal = admission.refuse_hello(identity, hello)
        if refusal is not None and refusal.kind in ("self", "duplicate"):
            await stream.send(refusal)
            return Unneeded(node, is_self=refusal.kind == "self")
        if refusal is not None:
            raise _Refused(refusal)
        order = admission.take(node, hello) if admission.is_judge(node) else 0
        with self._released_on_failure(node, order):
            await stream.send(self._welcome(hello, order))
            ready = await stream.next()
            if isinstance(ready, Refusal) and ready.kind == "duplicate":
                admission.release(node, order)
                return Unneeded(node, is_self=False)
            if not isinstance(ready, Ready):
                raise self._unexpected(ready, "READY", identity)
        if not admission.is_judge(node):
            order = ready.order
            if not admission.take_judged(node, hello, order):
                return Unneeded(node, is_self=False)
        elif not admission.stands(node, order):
            return Unneeded(node, is_self=False)
        return Agreed(stream, identity, hello, order)

    def _order_as_dialer(self, node: str, welcome: Welcome) -> int | None:
        """Let this connection stand and return its order; None where another one stands."""
        admission = self._admission
        if admission.is_judge(node):
            return None if admission.holds(node) else admission.take(node, welcome)
        return welcome.order if admission.take_judged(node, welcome, welcome.order) else None

    @contextlib.contextmanager
    def _released_on_failure(self, node: str, order: int) -> Iterator[None]:
        """Forget the connection that was let stand when the handshake does not come to its end."""
        try:
            yield
        except BaseException:
            self._admission.release(node, order)
            raise

    async def _conclude(
        self, stream: FrameStream, steps: Coroutine[object, object, Agreed | Unneeded], *, dialing: bool
    ) -> Agreed | Unneeded:
        """Await *steps* in bounded time; unless they agree, say why and close the stream."""
        try:
            async with asyncio.timeout(self._settings.handshake_seconds):
                outcome = await steps
        except _Refused as error:
            await stream.refuse(error.refusal)
            kind = WrongNode if error.refusal.kind == "wrong-node" else HandshakeRefused
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
        if isinstance(outcome, Unneeded):
            await stream.finish()
        return outcome

    def _unexpected(self, frame: ControlFrame | None, wanted: str, identity: PeerIdentity) -> Exception:
        """Return what to raise when *frame* (None: the end) came where *wanted* was due."""
        if isinstance(frame, Refusal):
            is_proved = frame.kind == "cloned" and self._admission.is_disowned_by(frame)
            kind = Disowned if is_proved else HandshakeRefused
            unproved = " It has not proved that, so this node goes on." if frame.kind == "cloned" else ""
            reason = one_line(frame.reason, MAX_REASON_CHARACTERS)
            return kind(f"{identity} refused this device: {reason}.{'' if is_proved else unproved}")
        if frame is None:
            return HandshakeRefused(
                f"{identity} closed the connection before its {wanted}; its log may say more."
            )
        reason = f"it sent {type(frame).__name__.upper()} where {wanted} was due"
        return _Refused(Refusal("protocol", reason))

    def _hello(self, node: str) -> Hello:
        lowest, highest = PROTOCOL_VERSIONS
        seen_nonce, seen = self._admission.seen(node)
        return Hello(
            software=self._local.version,
            claim=self._local.claim(self._credentials.node_id),
            port=self._reachable.port,
            advertise=self._reachable.advertise,
            lowest=lowest,
            highest=highest,
            seen_nonce=seen_nonce,
            seen=seen,
        )

    def _welcome(self, hello: Hello, order: int) -> Welcome:
        version = self._admission.version_with(hello)
        assert version is not None, "a HELLO without a common version was refused"
        return Welcome(
            software=self._local.version,
            claim=self._local.claim(self._credentials.node_id),
            port=self._reachable.port,
            advertise=self._reachable.advertise,
            version=version,
            order=order,
        )
