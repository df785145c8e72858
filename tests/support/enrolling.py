"""An inviter on loopback, and devices that join, for the tests of enrolment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfl.enrolment.channel import ENROL_ALPN, EnrolmentChannel, why_broken
from p2pfl.enrolment.frames import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    VERSION,
    InviterFrame,
    JoinRequest,
    PakeAnswer,
    PakeOffer,
    Proof,
    Wish,
    decode_from_inviter,
    encode_body,
)
from p2pfl.enrolment.invitation import Invitation, InvitationBook, open_invitation
from p2pfl.enrolment.inviter import ConfirmFunction, EnrolmentLimits, Inviter
from p2pfl.enrolment.joiner import Joined, JoinerSettings, JoinQuery, join
from p2pfl.enrolment.joining_folder import JoiningFolder
from p2pfl.enrolment.pake import Pake, PakeMessage, SharedKeys
from p2pfl.enrolment.words import word_list
from p2pfl.errors import EnrolmentRefused
from p2pfl.identity.authority import create_authority, list_certificates, open_authority
from p2pfl.identity.keys import generate_key
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import anonymous_client_context, secure_with

FAST = EnrolmentLimits(exchange_seconds=0.0)

IMPATIENT = JoinerSettings(tries=1)


class Told(list[str]):
    """Lines for a person, which can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def append(self, line: str) -> None:
        super().append(line)
        self._more.set()

    async def until(self, text: str = "") -> str:
        """Wait for a line with *text*; return it."""
        async with asyncio.timeout(30):
            while not (found := [line for line in self if text in line]):
                self._more.clear()
                await self._more.wait()
        return found[0]


@dataclass
class Inviting:
    """An open invitation."""

    directory: Path
    address: Address
    book: InvitationBook
    inviter: Inviter
    told: Told = field(default_factory=Told)
    """Lines for the person who invites."""

    @property
    def code(self) -> str:
        return self.book.invitation.code

    @property
    def invitation(self) -> Invitation:
        return self.book.invitation

    @property
    def wrong_code(self) -> str:
        """The code with another last word."""
        first, second, third = self.code.split("-")
        return f"{first}-{second}-{word_list()[(word_list().index(third) + 1) % 2048]}"

    def signed(self) -> list[str]:
        """Return the names of the devices that have got a certificate."""
        return [one.name for one in list_certificates(self.directory)]


@contextlib.asynccontextmanager
async def inviting(
    folder: Path,
    *,
    count: int = 1,
    ttl: float = 900.0,
    confirm: ConfirmFunction | None = None,
    members: tuple[KnownPeer, ...] = (),
    limits: EnrolmentLimits = FAST,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Inviting]:
    """Open an invitation of the CA in *folder*, which is made if it is missing. It ends like a crash."""
    if not (folder / "ca.key").exists():
        create_authority(folder, "lab")
    authority = open_authority(folder)
    told = Told()
    with open_invitation(authority, "node", count, ttl, clock()) as (book, _):
        inviter = Inviter(book, confirm, told.append, lambda: members, limits, clock)
        listening = sockets.listen("127.0.0.1", 0)
        inviter.open(listening)
        try:
            yield Inviting(folder, sockets.local_address(listening[0]), book, inviter, told)
        finally:
            await inviter.close()


@dataclass
class Device:
    """A device that joins."""

    directory: Path
    name: str = "ant"
    said: Told = field(default_factory=Told)

    async def join(
        self,
        address: Address,
        code: str,
        settings: JoinerSettings = IMPATIENT,
        clock: Callable[[], float] = time.time,
    ) -> Joined:
        folder = JoiningFolder(self.directory, self.name)
        query = JoinQuery(address, code, self.name, folder.key())
        try:
            return await join(query, lambda joined: _keep(folder, joined), self.said.append, settings, clock)
        except EnrolmentRefused:
            folder.discard()
            raise

    async def refused(self, address: Address, code: str, clock: Callable[[], float] = time.time) -> str:
        """Return why this device may not join."""
        try:
            await self.join(address, code, clock=clock)
        except EnrolmentRefused as error:
            return str(error)
        raise AssertionError("it has joined")

    def files(self) -> list[str]:
        """Return the names of all its files and folders."""
        return sorted(path.name for path in self.directory.rglob("*")) if self.directory.exists() else []


def _keep(folder: JoiningFolder, joined: Joined) -> None:
    folder.keep(joined)


@contextlib.asynccontextmanager
async def connected(address: Address) -> AsyncIterator[EnrolmentChannel[InviterFrame]]:
    """Connect to an inviter as a joiner does, and leave the frames to the test."""
    sock = await sockets.connect(address, 5.0)
    context = anonymous_client_context(ENROL_ALPN)
    transport, protocol = await secure_with(
        sock, StreamProtocol, context, why_broken, dialing=True, seconds=5.0
    )
    stream = FrameStream(transport, protocol, MAX_REPLY_BYTES)
    channel: EnrolmentChannel[InviterFrame] = EnrolmentChannel(stream, decode_from_inviter, MAX_REQUEST_BYTES)
    try:
        yield channel
    finally:
        channel.abort()


async def proved(channel: EnrolmentChannel[InviterFrame], code: str) -> SharedKeys:
    """Exchange keys on *channel* as a joiner does; return them after both proofs."""
    pake = Pake("joiner", code)
    await channel.send(PakeOffer(VERSION, pake.message.nonce, pake.message.element))
    answer = await channel.receive()
    assert isinstance(answer, PakeAnswer), answer
    keys = pake.finish(PakeMessage(answer.nonce, answer.element), channel.binding())
    await channel.send(Proof(keys.proof("joiner")))
    proof = await channel.receive()
    assert isinstance(proof, Proof), proof
    assert keys.is_proof("inviter", proof.proof)
    return keys


def request_of(keys: SharedKeys, wish: Wish) -> JoinRequest:
    """Return *wish* as a joiner sends it."""
    body = encode_body(wish)
    return JoinRequest(body, keys.mac("joiner", body))


def new_wish(name: str = "ant") -> Wish:
    """Return the wish of a new device."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(generate_key(), hashes.SHA256())
    return Wish(signed.public_bytes(Encoding.DER), name, time.time())
