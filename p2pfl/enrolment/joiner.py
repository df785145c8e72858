"""The device that joins: proves that it knows the code, asks for a certificate, and checks what it gets.

Nothing is believed before the inviter has proved that it knows the code too: until then whoever answers at
the address may be anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.enrolment.channel import ENROL_ALPN, EnrolmentChannel, why_broken
from p2pfl.enrolment.frames import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    VERSION,
    Declined,
    Grant,
    InviterFrame,
    JoinGrant,
    JoinRequest,
    PakeAnswer,
    PakeOffer,
    Proof,
    Stored,
    Wait,
    Wish,
    decode_from_inviter,
    decode_grant,
    encode_body,
)
from p2pfl.enrolment.pake import Pake, PakeMessage, SharedKeys
from p2pfl.errors import EnrolmentRefused, NetworkError, PeerError, ProtocolError, ReplyLostError
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.identity.lifetime import CLOCK_ALLOWANCE
from p2pfl.identity.names import Role, parse_authority_uri, parse_device_uri
from p2pfl.identity.peer import certificate_uris
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.sockets import connect
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import anonymous_client_context, secure_with
from p2pfl.times import show_time

ASK = "Ask for a new code there (`p2pfl invite`)."


class JoinerSettings(msgspec.Struct, frozen=True):
    """Time limits of a device that joins."""

    dial_seconds: float = 8.0
    handshake_seconds: float = 20.0
    """For each frame of the inviter."""
    tries: int = 3
    """Connections, if the answer to the request is lost."""


@dataclass(frozen=True)
class Joined:
    """What the device has got, checked."""

    name: str
    role: Role
    federation: str
    certificate: x509.Certificate
    authority: x509.Certificate
    members: tuple[KnownPeer, ...]
    skew: float
    """How far this device's clock is ahead of the inviter's, in seconds."""


@dataclass(frozen=True)
class JoinQuery:
    """What the device asks for, and of whom."""

    address: Address
    code: str
    """As `parse_code` returns it."""
    name: str
    key: ec.EllipticCurvePrivateKey


StoreFunction = Callable[[Joined], None]
"""Writes what was got to disk; then the inviter is told so."""


async def join(
    query: JoinQuery,
    store: StoreFunction,
    tell: Callable[[str], None],
    settings: JoinerSettings | None = None,
    clock: Callable[[], float] = time.time,
) -> Joined:
    """Join the federation of the inviter at the address of *query*; *tell* gets lines for the person here.

    If the connection breaks after the request, the same request is sent again.

    Raises:
        EnrolmentRefused: the inviter declined, or is a false one; nothing was stored.
        ReplyLostError: the request was sent, and no answer arrived: join again with the same key.
        NetworkError: the inviter could not be reached.
    """
    settings = settings or JoinerSettings()
    lost: ReplyLostError | None = None
    for number in range(settings.tries):
        if lost is not None:
            tell(f"{lost} Asking again ({number + 1} of {settings.tries} times).")
        try:
            return await _Attempt(query, store, tell, settings, clock).run()
        except ReplyLostError as error:
            lost = error
        except NetworkError as error:
            if lost is None or isinstance(error, EnrolmentRefused):
                raise
    assert lost is not None, "there is at least one try"
    raise lost


class _ClosedError(NetworkError):
    """The other side closed the connection."""

    def __init__(self) -> None:
        super().__init__("The other side closed the connection.")


class _Attempt:
    """One connection to the inviter."""

    def __init__(
        self,
        query: JoinQuery,
        store: StoreFunction,
        tell: Callable[[str], None],
        settings: JoinerSettings,
        clock: Callable[[], float],
    ) -> None:
        self._query = query
        self._store = store
        self._tell = tell
        self._settings = settings
        self._clock = clock
        self._has_asked = False

    async def run(self) -> Joined:
        """Join; the errors are those of `join`."""
        address = self._query.address
        channel = await self._connected()
        try:
            joined = await self._ask(channel, await self._prove(channel))
        except PeerError as error:
            raise EnrolmentRefused(f"No invitation answers at {address}: {error}.") from error
        except EnrolmentRefused:
            raise
        except (OSError, _ClosedError) as error:
            why = why_broken(error)
            if self._has_asked:
                raise ReplyLostError(f"The answer of {address} was lost. {why}") from error
            raise NetworkError(f"The inviter at {address} broke off. {why} {ASK}") from error
        else:
            self._store(joined)
            await self._acknowledge(channel)
            return joined
        finally:
            channel.abort()

    async def _connected(self) -> EnrolmentChannel[InviterFrame]:
        address, settings = self._query.address, self._settings
        try:
            connection = await connect(address, settings.dial_seconds)
        except NetworkError as error:
            is_closed = isinstance(error.__cause__, ConnectionRefusedError)
            raise NetworkError(
                f"No invitation is open at {address}: {'nothing listens there.' if is_closed else error} "
                "If there was one, it has ended: all its seats are taken, its time is over, five codes "
                f"were wrong, or it was stopped. {ASK}"
            ) from error
        transport, protocol = await secure_with(
            connection,
            StreamProtocol,
            anonymous_client_context(ENROL_ALPN),
            lambda error: f"No invitation answers at {address}: {why_broken(error)} Compare the address.",
            dialing=True,
            seconds=settings.handshake_seconds,
        )
        stream = FrameStream(transport, protocol, MAX_REPLY_BYTES)
        return EnrolmentChannel(stream, decode_from_inviter, MAX_REQUEST_BYTES)

    async def _prove(self, channel: EnrolmentChannel[InviterFrame]) -> SharedKeys:
        """Exchange keys, and return them when each side has proved that it knows the code."""
        binding = channel.binding()
        pake = await asyncio.to_thread(Pake, "joiner", self._query.code)
        await channel.send(PakeOffer(VERSION, pake.message.nonce, pake.message.element))
        answer = await self._next(channel)
        if not isinstance(answer, PakeAnswer):
            raise self._unexpected(answer)
        keys = await asyncio.to_thread(pake.finish, PakeMessage(answer.nonce, answer.element), binding)
        await channel.send(Proof(keys.proof("joiner")))
        proof = await self._next(channel)
        if not isinstance(proof, Proof):
            raise self._unexpected(proof)
        if not keys.is_proof("inviter", proof.proof):
            raise self._false_inviter()
        return keys

    async def _ask(self, channel: EnrolmentChannel[InviterFrame], keys: SharedKeys) -> Joined:
        """Send the request, and return the checked answer."""
        query = self._query
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = builder.sign(query.key, hashes.SHA256())
        wish = encode_body(Wish(request.public_bytes(Encoding.DER), query.name, self._clock()))
        self._has_asked = True
        await channel.send(JoinRequest(wish, keys.mac("joiner", wish)))
        frame = await self._next(channel)
        if isinstance(frame, Wait):
            self._tell(
                "The code is right. Waiting until this device is let in on the inviting device's screen."
            )
        while isinstance(frame, Wait):
            frame = await self._next(channel)
        if not isinstance(frame, JoinGrant):
            raise self._unexpected(frame)
        if not keys.is_mac("inviter", frame.body, frame.mac):
            raise self._false_inviter()
        return self._checked(decode_grant(frame.body))

    async def _acknowledge(self, channel: EnrolmentChannel[InviterFrame]) -> None:
        """Say that the answer is stored. If that is lost, the inviter only waits longer."""
        try:
            await channel.send(Stored())
            await channel.finish()
        except OSError:
            return

    async def _next(self, channel: EnrolmentChannel[InviterFrame]) -> InviterFrame:
        async with asyncio.timeout(self._settings.handshake_seconds):
            frame = await channel.receive()
        if frame is None:
            raise _ClosedError
        return frame

    def _checked(self, grant: Grant) -> Joined:
        """Check what an inviter that knows the code has sent: it may be of another version, or wrong."""
        try:
            certificate = x509.load_der_x509_certificate(grant.certificate)
            authority = x509.load_der_x509_certificate(grant.authority)
            certificate.verify_directly_issued_by(authority)
            has_own_key = certificate.public_key() == self._query.key.public_key()
        except (ValueError, TypeError, InvalidSignature) as error:
            raise ProtocolError("it sent a certificate that its CA has not signed") from error
        uris, federations = certificate_uris(certificate), certificate_uris(authority)
        identity = parse_device_uri(uris[0]) if len(uris) == 1 else None
        federation = parse_authority_uri(federations[0]) if len(federations) == 1 else None
        if not has_own_key or identity is None or identity[0] != federation:
            raise ProtocolError("it sent a certificate that is not this device's")
        skew = self._clock() - grant.clock
        return Joined(identity[2], identity[1], identity[0], certificate, authority, grant.members, skew)

    def _false_inviter(self) -> EnrolmentRefused:
        return EnrolmentRefused(
            f"The device at {self._query.address} does not know this code, or another device stands "
            "between the two: it got nothing from this one. Compare the address and the code with the "
            "inviting device's screen."
        )

    def _unexpected(self, frame: InviterFrame) -> Exception:
        if not isinstance(frame, Declined):
            return ProtocolError(f"it sent {type(frame).__name__} out of its turn")
        return EnrolmentRefused(self._declined(frame))

    def _declined(self, frame: Declined) -> str:
        at = f"at {self._query.address}"
        match frame.kind:
            case "version" | "protocol":
                return f"The inviter {at} has another version of p2pfl: install the same one on both devices."
            case "code":
                return (
                    f"The inviter {at} did not accept the code: it is wrong, or another device stands "
                    f"between the two. Compare it with the inviting device's screen; after {frame.left} "
                    "more wrong codes the invitation ends."
                )
            case "tries":
                return f"The invitation {at} has ended after five wrong codes. {ASK}"
            case "expired":
                return f"The invitation {at} has expired. {ASK}"
            case "full":
                return f"All seats of the invitation {at} are taken. {ASK}"
            case "busy":
                return f"Too many devices wait {at} to be let in: try again when some of them are."
            case "clock":
                return (
                    f"This device's clock is wrong, or the inviter's: it is {_shown(self._clock())} here and "
                    f"{_shown(frame.clock)} there. Set the wrong one right, and try again; certificates "
                    f"begin only {CLOCK_ALLOWANCE.days} day before they are made."
                )
            case "person":
                return f"The person {at} did not let this device in."
            case "stopped":
                return f"The invitation {at} was stopped there before this device was let in. {ASK}"
            case "failed":
                return f"The inviter {at} could not let this device in: its screen says why."
            case _ as unreachable:
                assert_never(unreachable)


def _shown(moment: float) -> str:
    """Return *moment*, which the other side may have sent, as people read it."""
    try:
        return show_time(datetime.fromtimestamp(moment, UTC))
    except (OverflowError, ValueError, OSError):
        return "an impossible time"
