"""Raw clients, with or without a certificate, that send anything to a running node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from p2pfl import messages
from p2pfl.cards import DataCard, LabelCount
from p2pfl.config import PROTOCOL_VERSIONS
from p2pfl.identity.authority import issue
from p2pfl.identity.credentials import Credentials, read_credentials
from p2pfl.identity.names import Role
from p2pfl.identity.signatures import signer_of
from p2pfl.messages import (
    Accept,
    Accepted,
    Ack,
    Ballot,
    Card,
    Collect,
    ControlRequest,
    Decline,
    DeviceInfo,
    Member,
    Message,
    Offer,
    Prepare,
    Promise,
    RecordBlobs,
    Records,
    RecordsRequest,
    Refuse,
    Report,
    StepDown,
    Submit,
    Undelivered,
    record_digest,
)
from p2pfl.net.transport.tls import CONTROL_ALPN, client_context
from p2pfl.proofs import Claim, sign_claim, sign_request, sign_vote
from p2pfl.statements import Statement
from p2pfl.wire import links
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from tests.support.core import member, status
from tests.support.keys import signer
from tests.support.records import CARD, Chain, digest, evaluation, evaluations, genesis, node, signed, update

MAX_BYTES = 1024 * 1024
PATIENCE_SECONDS = 30.0
NONCE = "5" * 32
VERSIONS = PROTOCOL_VERSIONS
VOTES = 1
"""The number of cast votes that every client claims."""

STATEMENT = Statement("ban", node("ada"), "ada", 1, 0, "", b"no certificate", b"no signature")
"""A statement that nobody has signed."""

_CHAIN = Chain()
_COMMIT = _CHAIN.commit(evaluated=evaluations((8, 10), (9, 10)))
_RUN, _BALLOT = _CHAIN.run, Ballot(3, node("ben"))
_CLAIM = sign_claim(signer("ben"), member("ben"), 1, NONCE, 0)

MESSAGES: Sequence[Message] = [
    status(run=_RUN, round=3, record=digest("record"), progress=0.5, phase="training"),
    Offer(genesis()),
    Prepare(_RUN, 1, _BALLOT),
    Promise(_RUN, 1, _BALLOT, Ballot(1, node("ada")), _COMMIT.record, signed("ben", _RUN, 1, _BALLOT)),
    Refuse(_RUN, 1, _BALLOT, Ballot(4, node("ada"))),
    Collect(_RUN, 1, _BALLOT, selected=True),
    Submit(_RUN, 1, _BALLOT, _RUN, update("ada", 1), "", evaluation(8, 10, 2.0)),
    Ack(_RUN, 1, _BALLOT, ""),
    Accept(_RUN, 1, _BALLOT, _COMMIT.record),
    Accepted(
        _RUN,
        1,
        _BALLOT,
        record_digest(_COMMIT.record),
        signed("ben", _RUN, 1, _BALLOT, record_digest(_COMMIT.record)),
    ),
    Undelivered(_RUN, 1, _BALLOT, "nobody has it"),
    StepDown(_RUN, 1, _BALLOT, "a higher ballot was promised"),
    _COMMIT,
    Report(_RUN, 1, evaluation(8, 10, 2.0)),
    RecordsRequest(_RUN, -1),
    Records(_RUN, genesis(), (_COMMIT,)),
    Decline(_RUN, "its model differs"),
    sign_request(signer("ben"), node("ben"), _RUN, 1, "pause", "ada (operator)"),
    Card(CARD),
    DeviceInfo("0.1.0", "Linux x86_64", 4, 8 * 2**30, "cuda", CARD),
]
"""One valid message of each kind, of a run without members."""

LINK_FRAMES: Sequence[ControlFrame] = [
    links.Hello("0.1.0", _CLAIM, 1, (), *VERSIONS, "", 0),
    links.Welcome("0.1.0", _CLAIM, 1, (), VERSIONS[1], 1),
    links.Ready(7),
    links.Refusal("full", "there is no room"),
    links.Ping(),
    links.Pong(),
    links.Peers((links.PeerAddresses(node("cleo"), "cleo", ("127.0.0.1:1",)),)),
    links.Call(NONCE),
    links.CallFailed(NONCE, "it could not be dialled"),
    links.CanRenew(),
    links.Renew(b"a certificate"),
    links.Renewed(b"a certificate"),
    links.RenewalRefused("it is not due"),
    links.Statements((STATEMENT,)),
    links.RevocationList(b"no list"),
    links.Bye("it is over"),
]
"""One valid frame of each kind that belongs to the link itself."""


def member_of(credentials: Credentials) -> Member:
    """Return the member that a client with *credentials* claims to be."""
    return Member(credentials.node_id, credentials.node_id.encode().hex()[:32])


def hello_of(credentials: Credentials, claim: Claim | None = None) -> links.Hello:
    """Return the HELLO of a client with *credentials*, with *claim* or a validly signed claim of its own."""
    if claim is None:
        claim = sign_claim(signer_of(credentials), member_of(credentials), 1, NONCE, VOTES)
    return links.Hello("0.1.0", claim, 1, (), *VERSIONS, "", 0)


def signed_message(
    credentials: Credentials,
    frame: Message,
    run: str,
    round_: int,
    who: Member | None = None,
    votes: int = VOTES,
) -> Message:
    """Return *frame* as sent by *who* with *credentials* for *round_* of *run*, validly signed."""
    if isinstance(frame, ControlRequest):
        return sign_request(signer_of(credentials), credentials.node_id, run, round_, "pause", "")
    ballot = Ballot(3, credentials.node_id)
    changes = {"run": run, "round": round_, "ballot": ballot, "previous": run}
    if isinstance(frame, Promise | Accepted):
        record = frame.record if isinstance(frame, Accepted) else ""
        who, signs = who or member_of(credentials), signer_of(credentials)
        changes["vote"] = sign_vote(signs, who, run, round_, ballot, record, votes)
    kept = {name: value for name, value in changes.items() if name in frame.__struct_fields__}
    return msgspec.structs.replace(frame, **kept)


def framed(*frames: ControlFrame) -> bytes:
    """Return the encoded *frames*."""
    return b"".join(encode_frame(encode(frame), MAX_BYTES) for frame in frames)


def malformed(frame: ControlFrame) -> list[bytes]:
    """Return invalid variants of *frame*: with an extra field, a missing one, one of a wrong type."""
    fields = msgspec.to_builtins(frame, builtin_types=(bytes,))
    variants = [{**fields, "more": 1}]
    for name in fields:
        if name != "type":
            variants.append({key: value for key, value in fields.items() if key != name})
            variants.append({**fields, name: {"x": [None]}})
    return [encode_frame(msgspec.msgpack.encode(variant), MAX_BYTES) for variant in variants]


def flood(frame: ControlFrame, number: int) -> AsyncIterator[bytes]:
    """Yield *number* copies of *frame*, with differences where its fields permit."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, number, 500):
            yield framed(*(_varied(frame, at) for at in range(start, min(number, start + 500))))

    return pieces()


def _varied(frame: ControlFrame, number: int) -> ControlFrame:
    match frame:
        case messages.Offer():
            return Offer(msgspec.structs.replace(frame.genesis, blobs=RecordBlobs(digest(f"model {number}"))))
        case messages.Decline():
            return Decline(digest(f"run {number}"), f"reason {number}")
        case messages.DeviceInfo():
            return msgspec.structs.replace(frame, part=_card(number))
        case messages.Card():
            return messages.Card(_card(number))
        case messages.Status():
            return msgspec.structs.replace(
                frame, run="", record="", steps=number, min_nodes=1 + number % 200, waiting=bool(number % 2)
            )
        case links.Peers():
            dead = tuple(
                links.PeerAddresses(node(f"{number}-{one}"), "dead", (f"dead{number}-{one}.invalid:1",))
                for one in range(4)
            )
            return links.Peers(dead)
    return frame


def _card(number: int) -> DataCard:
    return DataCard("digits", number + 1, tuple(LabelCount(str(one), number + one) for one in range(200)))


class Client:
    """A raw control connection to a node."""

    _orders = itertools.count(10**6)

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder(MAX_BYTES)
        self._frames: list[ControlFrame] = []
        self.claim: Claim | None = None
        """The claim of the node about its journal."""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, port: int, credentials: Credentials) -> AsyncIterator[Client]:
        """Connect to the node at *port*; send nothing yet."""
        context = client_context(credentials, [CONTROL_ALPN])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    @classmethod
    @contextlib.asynccontextmanager
    async def linked(
        cls, port: int, credentials: Credentials, claim: Claim | None = None
    ) -> AsyncIterator[Client]:
        """Connect to the node at *port* and establish a link."""
        async with cls.connected(port, credentials) as client:
            welcome = await client.greet(credentials, claim)
            await client.say(framed(links.Ready(0 if welcome.order else next(cls._orders))))
            yield client

    async def greet(self, credentials: Credentials, claim: Claim | None = None) -> links.Welcome:
        """Send HELLO; return the node's WELCOME."""
        await self.say(framed(hello_of(credentials, claim)))
        welcome = await self.hear(links.Welcome)
        assert isinstance(welcome, links.Welcome), welcome
        self.claim = welcome.claim
        return welcome

    async def say(self, data: bytes) -> None:
        """Send *data*; a closed connection is noticed by the next read."""
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def hear(self, *kinds: type) -> ControlFrame | None:
        """Return the next frame of one of *kinds*, or a REFUSAL; None after the node has closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if isinstance(frame, (*kinds, links.Refusal)):
                        return frame
                try:
                    data = await self._reader.read(65536)
                except OSError:
                    return None
                if not data:
                    return None
                self._frames += [decode(body) for body in self._decoder.feed(data)]

    async def flood(self, frame: ControlFrame, number: int) -> None:
        """Send *number* copies of *frame* without reading, until all are sent or the node has closed."""
        async for piece in flood(frame, number):
            await self.say(piece)
            if self._writer.transport.is_closing():
                return


class People:
    """Issues certificates of a federation on demand."""

    def __init__(self, authority: Path) -> None:
        self._authority = authority
        self._numbers = itertools.count()

    def new(self, role: Role = "node") -> Credentials:
        """Return the credentials of a new certificate."""
        name = f"x{secrets.token_hex(2)}{next(self._numbers)}"
        return read_credentials(issue(self._authority, name, role))
