"""The inviter: listens while an invitation is open, and gives certificates to devices that know its code.

A connection first proves that it knows the code: within a time limit, among a limited number of others, and
one after the other, because the key exchange costs some processor time. Only then a request is read, a
person is asked, a seat is taken, and a certificate is signed, in this order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.config import DEFAULT_PORT
from p2pfl.enrolment.channel import EnrolmentChannel, make_identity, why_broken
from p2pfl.enrolment.device_names import valid_name
from p2pfl.enrolment.frames import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    VERSION,
    Declined,
    Grant,
    JoinerFrame,
    JoinGrant,
    JoinRequest,
    PakeAnswer,
    PakeOffer,
    Proof,
    Stored,
    Wait,
    Wish,
    decode_from_joiner,
    decode_wish,
    encode_body,
)
from p2pfl.enrolment.invitation import InvitationBook, InvitationState
from p2pfl.enrolment.members import merged
from p2pfl.enrolment.pake import Pake, PakeMessage, SharedKeys
from p2pfl.errors import NetworkError, P2pflError, PeerError, ProtocolError, UserError
from p2pfl.identity.authority import DEVICE_LIFETIME
from p2pfl.identity.keys import node_id_of, short
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.identity.lifetime import CLOCK_ALLOWANCE
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.pending import PendingConnections, accept, wait_first_byte
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.net.transport.tls import secure_with
from p2pfl.times import show_time

logger = logging.getLogger(__name__)


class EnrolmentLimits(msgspec.Struct, frozen=True):
    """Limits of an inviter, which strangers can reach."""

    first_byte_seconds: float = 3.0
    """From the accepted TCP connection to its first byte: a joiner sends at once."""
    proof_seconds: float = 15.0
    """From the TLS handshake to the request. The key exchange takes half a second on a small device."""
    wait_seconds: float = 5.0
    """Between two WAIT frames, by which a joiner knows that the inviter is still there."""
    stored_seconds: float = 15.0
    """Time of a joiner to write its files and say so."""
    max_pending: int = 32
    """Connections that have not proved that they know the code."""
    max_pending_per_address: int = 8
    max_waiting: int = 64
    """Connections of devices that know the code, and wait until a person lets them in."""
    exchange_seconds: float = 0.05
    """Least time between two key exchanges, so that strangers cannot take all processor time."""


@dataclass(frozen=True)
class Applicant:
    """A device that knows the code, before a person lets it in."""

    node: str
    name: str
    """The name it will get."""
    host: str
    """Its IP address."""

    def __str__(self) -> str:
        return f"{self.name} ({short(self.node)}) at {self.host}"


ConfirmFunction = Callable[[Applicant], Awaitable[bool]]
"""Asks a person whether a device may join. It is called for one device at a time."""

MAX_TOLD = 64
"""Refusals of strangers that the person is told of, each address once."""

_Outcome = TypeVar("_Outcome")
_Expected = TypeVar("_Expected", PakeOffer, Proof, JoinRequest, Stored)


class _DeclinedError(Exception):
    """The exchange ends with this frame."""

    def __init__(self, frame: Declined, why: str) -> None:
        super().__init__(why)
        self.frame = frame


class Inviter:
    """Serves one invitation."""

    def __init__(
        self,
        book: InvitationBook,
        confirm: ConfirmFunction | None,
        tell: Callable[[str], None],
        members: Callable[[], Sequence[KnownPeer]] = lambda: (),
        limits: EnrolmentLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open nothing yet.

        *confirm* None lets in every device that knows the code; *tell* gets a line for the person at this
        device; *members* returns whom joiners can dial; *clock* is this device's, in seconds since the
        epoch.
        """
        self._book = book
        self._confirm = confirm
        self._tell = tell
        self._members = members
        self._limits = limits or EnrolmentLimits()
        self._clock = clock
        self._identity = make_identity()
        self._pending = PendingConnections(self._limits.max_pending, self._limits.max_pending_per_address)
        self._exchanging = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._waiting = 0
        """Number of connections that wait for a person."""
        self._told: set[tuple[str, str]] = set()
        """Address and kind of the refusals that the person was told and that strangers can repeat."""
        self._joined: dict[str, KnownPeer] = {}
        self._is_closing = False
        self._changed = asyncio.Event()
        self._tasks = BackgroundTasks()
        self._listening: Sequence[socket.socket] = ()

    def open(self, listening: Sequence[socket.socket]) -> None:
        """Accept connections on the *listening* sockets until `close`, which closes them."""
        self._listening = listening
        for one in listening:
            self._tasks.start_restarting("accepting devices that join", partial(accept, one, self._start))

    async def until_end(self) -> InvitationState:
        """Wait until the invitation has ended; return why: "full" once each device has its certificate."""
        while True:
            self._changed.clear()
            invitation = self._book.invitation
            if invitation.is_done:
                return "full"
            left = invitation.expires - self._clock()
            if left <= 0 or invitation.state(self._clock()) == "tries":
                return "expired" if left <= 0 else "tries"
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Stop listening; devices that wait are told that the invitation has ended."""
        self._is_closing = True
        await self._tasks.close()
        for one in self._listening:
            one.close()

    def _start(self, connection: socket.socket) -> None:
        self._tasks.start(self._handle(connection))

    async def _handle(self, connection: socket.socket) -> None:
        """Serve one connection to its end; whatever it does ends nothing else."""
        try:
            host = sockets.remote_host(connection)
            sockets.set_options(connection, self._limits.proof_seconds)
            sockets.check_file_limit(connection)
        except OSError:
            connection.close()
            return
        try:
            await self._serve(connection, host)
        except (P2pflError, OSError) as error:
            logger.info("a connection from %s to the invitation ended: %s", host, why_broken(error))

    async def _serve(self, connection: socket.socket, host: str) -> None:
        with self._pending.counted(host):
            channel = await self._secured(connection)
            try:
                async with asyncio.timeout(self._limits.proof_seconds):
                    outcome = await self._ended_politely(channel, host, self._prove(channel))
            except BaseException:
                channel.abort()
                raise
        if outcome is None:
            return
        keys, request = outcome
        try:
            await self._ended_politely(channel, host, self._admit(channel, host, keys, request))
        finally:
            channel.abort()

    async def _secured(self, connection: socket.socket) -> EnrolmentChannel[JoinerFrame]:
        await wait_first_byte(connection, self._limits.first_byte_seconds, "a device that joins")
        transport, protocol = await secure_with(
            connection,
            StreamProtocol,
            self._identity.context,
            why_broken,
            dialing=False,
            seconds=self._limits.proof_seconds,
        )
        stream = FrameStream(transport, protocol, MAX_REQUEST_BYTES)
        return EnrolmentChannel(stream, decode_from_joiner, MAX_REPLY_BYTES)

    async def _ended_politely(
        self, channel: EnrolmentChannel[JoinerFrame], host: str, steps: Awaitable[_Outcome]
    ) -> _Outcome | None:
        """Await *steps*; if they decline, send the reason and return None."""
        try:
            return await steps
        except _DeclinedError as declined:
            frame = declined.frame
            self._tell_declined(host, frame.kind, f"A device at {host} was not let in: {declined}.")
        except PeerError as error:
            logger.info("a device at %s broke the protocol of invitations: %s", host, error)
            frame = Declined("protocol")
        except UserError as error:  # the disk or the CA: the person here can change that
            self._tell(f"A device at {host} was not let in: {error}")
            frame = Declined("failed")
        except asyncio.CancelledError:
            if self._is_closing:
                state = self._book.invitation.state(self._clock())
                with contextlib.suppress(OSError):
                    await channel.send(Declined(state if state in ("expired", "tries") else "stopped"))
                    await channel.finish()
            raise
        await channel.send(frame)
        await channel.finish()
        return None

    def _tell_declined(self, host: str, kind: str, line: str) -> None:
        """Tell the person *line*; not again and again what strangers can cause at will."""
        is_rare = kind not in ("version", "expired", "tries")
        if is_rare or ((host, kind) not in self._told and len(self._told) < MAX_TOLD):
            self._told.add((host, kind))
            self._tell(line)
        else:
            logger.info(line)

    async def _prove(self, channel: EnrolmentChannel[JoinerFrame]) -> tuple[SharedKeys, JoinRequest]:
        """Exchange keys; return them and the request, once each side has proved that it knows the code."""
        offer = await _expect(channel, PakeOffer)
        if offer.version != VERSION:
            raise _DeclinedError(
                Declined("version"),
                f"it speaks version {offer.version} of invitations, and this one {VERSION}",
            )
        async with self._exchanging:
            self._check_open()
            pake = await asyncio.to_thread(Pake, "inviter", self._book.invitation.code)
            await asyncio.sleep(self._limits.exchange_seconds)
        await channel.send(PakeAnswer(pake.message.nonce, pake.message.element))
        proof = await _expect(channel, Proof)
        binding = channel.binding(self._identity.certificate)
        async with self._exchanging:
            # An attacker may have sent many proofs at the same time: each is counted before the next is
            # checked.
            self._check_open()
            keys = await asyncio.to_thread(pake.finish, PakeMessage(offer.nonce, offer.element), binding)
            if not keys.is_proof("joiner", proof.proof):
                raise self._wrong_code()
        await channel.send(Proof(keys.proof("inviter")))
        request = await _expect(channel, JoinRequest)
        if not keys.is_mac("joiner", request.body, request.mac):
            raise ProtocolError("its request is not authentic")
        return keys, request

    def _wrong_code(self) -> _DeclinedError:
        left = self._book.count_wrong_code()
        self._changed.set()
        outlook = (
            f"{left} more wrong ones end the invitation" if left else "the invitation ends with this one"
        )
        return _DeclinedError(
            Declined("code" if left else "tries", left),
            f"it gave a wrong code, or another device stood between the two; {outlook}",
        )

    async def _admit(
        self, channel: EnrolmentChannel[JoinerFrame], host: str, keys: SharedKeys, request: JoinRequest
    ) -> None:
        """Ask, take a seat, sign, answer, and wait until the joiner has stored the answer."""
        wish = decode_wish(request.body)
        signing = _signing_request(wish)
        node = node_id_of(signing.public_key())
        self._check_clock(wish)
        if self._book.invitation.seat_of(node) is None:
            await self._take_seat(channel, host, node, wish)
        now = self._clock()
        certificate = self._book.certificate_for(signing, datetime.fromtimestamp(now, UTC))
        authority = self._book.authority.certificate.public_bytes(Encoding.DER)
        members = merged([*self._members(), *self._joined.values()], own=node)
        body = encode_body(Grant(certificate, authority, members, now))
        await channel.send(JoinGrant(body, keys.mac("inviter", body)))
        async with asyncio.timeout(self._limits.stored_seconds):
            await _expect(channel, Stored)
        self._book.mark_stored(node)
        seat = self._book.invitation.seat_of(node)
        assert seat is not None, "it was taken above"
        address = Address(host, DEFAULT_PORT)
        if not address.is_loopback:  # on one device, each node has a port of its own
            self._joined[node] = KnownPeer(node, seat.name, (str(address),), now)
        left = self._book.invitation.count - len(self._book.invitation.seats)
        self._tell(f"{seat.name} ({short(node)}) has joined; {f'{left} more can' if left else 'all are in'}.")
        self._changed.set()
        await channel.finish()

    async def _take_seat(
        self, channel: EnrolmentChannel[JoinerFrame], host: str, node: str, wish: Wish
    ) -> None:
        """Give a seat to the device *node*, if a person confirms it; not if the device goes meanwhile."""
        self._check_seats()
        if self._waiting >= self._limits.max_waiting:
            raise _DeclinedError(Declined("busy"), f"{self._waiting} others wait already to be let in")
        self._waiting += 1
        deciding = asyncio.create_task(self._decide(host, node, wish))
        leaving = asyncio.create_task(channel.receive())
        try:
            while not deciding.done():
                if self._confirm is not None:
                    await channel.send(Wait())
                await asyncio.wait(
                    (deciding, leaving),
                    timeout=self._limits.wait_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if leaving.done() and not deciding.done():
                    self._tell(f"{valid_name(wish.name)} ({short(node)}) has gone; it is not let in.")
                    raise NetworkError("The other side closed the connection.")
            deciding.result()
        finally:
            self._waiting -= 1
            deciding.cancel()
            leaving.cancel()
            await asyncio.gather(deciding, leaving, return_exceptions=True)

    async def _decide(self, host: str, node: str, wish: Wish) -> None:
        """Ask a person about the device *node* when it is its turn, and take its seat."""
        async with self._asking:
            if self._book.invitation.seat_of(node) is not None:  # by an earlier connection, which broke
                return
            self._check_seats()
            applicant = Applicant(node, self._book.name_for(valid_name(wish.name)), host)
            if self._confirm is not None and not await self._confirm(applicant):
                raise _DeclinedError(Declined("person"), f"{applicant} was refused here")
            self._check_seats()  # the person may have taken long
            self._book.take_seat(node, applicant.name)

    def _check_seats(self) -> None:
        """Decline if no seat is left, or the invitation has ended."""
        self._check_open()
        if self._book.invitation.state(self._clock()) == "full":
            raise _DeclinedError(Declined("full"), "all seats of the invitation are taken")

    def _check_open(self) -> None:
        """Decline if the invitation has ended. One that is full has not: lost answers can be fetched."""
        state = self._book.invitation.state(self._clock())
        if state == "expired" or state == "tries":
            raise _DeclinedError(Declined(state), "the invitation has ended")

    def _check_clock(self, wish: Wish) -> None:
        """Decline a device by whose clock its certificate would not be valid."""
        now = self._clock()
        behind = now - wish.clock
        if -DEVICE_LIFETIME.total_seconds() < behind < CLOCK_ALLOWANCE.total_seconds():
            return
        raise _DeclinedError(
            Declined("clock", clock=now),
            f"its clock differs from this device's by {abs(behind) / 86400:.0f} days; here it is "
            f"{show_time(datetime.fromtimestamp(now, UTC))}",
        )


async def _expect(channel: EnrolmentChannel[JoinerFrame], kind: type[_Expected]) -> _Expected:
    """Return the next frame, which must be of *kind*.

    Raises:
        ProtocolError: it is another one.
        NetworkError: the other side closed.
    """
    frame = await channel.receive()
    if frame is None:
        raise NetworkError("The other side closed the connection.")
    if not isinstance(frame, kind):
        raise ProtocolError(f"it sent {type(frame).__name__} where {kind.__name__} was expected")
    return frame


def _signing_request(wish: Wish) -> x509.CertificateSigningRequest:
    """Return the signing request in *wish*.

    Raises:
        ProtocolError: it is none, of another kind of key, or not signed by it.
    """
    try:
        request = x509.load_der_x509_csr(wish.request)
        key, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProtocolError("its signing request cannot be read") from error
    is_p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if not is_signed or not is_p256:
        raise ProtocolError("its signing request is not signed by a P-256 key of its own")
    return request
