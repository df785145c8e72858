"""The frames between a device that joins and its inviter, with the bounds of each field.

The order is: PAKE-OFFER and PAKE-ANSWER (the key exchange), PROOF from the joiner, PROOF from the inviter,
JOIN-REQUEST, WAITs while a person is asked, JOIN-GRANT, STORED. In place of any of its frames the inviter may
send DECLINED. No text is in a DECLINED: before the proofs anybody could have written it, so the joiner has a
sentence of its own for each kind.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pfl.enrolment.pake import ELEMENT_BYTES, MAC_BYTES, NONCE_BYTES
from p2pfl.identity.known_peers import KnownPeer
from p2pfl.wire.codec import understood

VERSION = 1
"""Of the exchange. A joiner with another one is declined, and told to install the same version."""

MAX_REQUEST_BYTES = 16 * 1024
"""Longest body of a joiner's frame: a signing request has 400 bytes."""

MAX_REPLY_BYTES = 512 * 1024
"""Longest body of an inviter's frame: two certificates, and the members."""

MAX_MEMBERS = 128
"""Members named in a reply: one that answers is enough, it names all others."""

Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Element = Annotated[bytes, Meta(min_length=ELEMENT_BYTES, max_length=ELEMENT_BYTES)]
Mac = Annotated[bytes, Meta(min_length=MAC_BYTES, max_length=MAC_BYTES)]
Der = Annotated[bytes, Meta(min_length=1, max_length=8192)]

DeclineKind = Literal[
    "version", "code", "tries", "expired", "full", "busy", "clock", "person", "protocol", "failed", "stopped"
]
"""Why an inviter declines."""


class PakeOffer(msgspec.Struct, frozen=True, tag="pake-offer", forbid_unknown_fields=True):
    """The joiner's part of the key exchange."""

    version: Annotated[int, Meta(ge=1, le=2**16)]
    nonce: Nonce
    element: Element


class PakeAnswer(msgspec.Struct, frozen=True, tag="pake-answer", forbid_unknown_fields=True):
    """The inviter's part of the key exchange."""

    nonce: Nonce
    element: Element


class Proof(msgspec.Struct, frozen=True, tag="proof", forbid_unknown_fields=True):
    """Shows that its sender knows the code, and is the other end of this TLS connection."""

    proof: Mac


class JoinRequest(msgspec.Struct, frozen=True, tag="join-request", forbid_unknown_fields=True):
    """Holds a `Wish`."""

    body: Annotated[bytes, Meta(max_length=MAX_REQUEST_BYTES)]
    mac: Mac


class Wait(msgspec.Struct, frozen=True, tag="wait", forbid_unknown_fields=True):
    """A person at the inviting device is asked whether this device may join; repeated until an answer."""


class JoinGrant(msgspec.Struct, frozen=True, tag="join-grant", forbid_unknown_fields=True):
    """Holds a `Grant`."""

    body: Annotated[bytes, Meta(max_length=MAX_REPLY_BYTES)]
    mac: Mac


class Stored(msgspec.Struct, frozen=True, tag="stored", forbid_unknown_fields=True):
    """The joiner has its certificate on its disk: nothing needs to be fetched again."""


class Declined(msgspec.Struct, frozen=True, tag="declined", forbid_unknown_fields=True):
    """The inviter ends the exchange, with the reason."""

    kind: DeclineKind
    left: Annotated[int, Meta(ge=0, le=100)] = 0
    """With "code": the number of further wrong codes that end the invitation."""
    clock: float = 0.0
    """With "clock": the inviter's clock, seconds since the epoch."""


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the joiner asks for: a certificate for its public key. All else is the inviter's decision."""

    request: Der
    """A signing request (PKCS #10), which the key in it has signed. Its names are ignored."""
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    """The name that the device would like."""
    clock: float
    """The device's clock, seconds since the epoch."""


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the joiner gets."""

    certificate: Der
    authority: Der
    """The CA's certificate."""
    members: Annotated[tuple[KnownPeer, ...], Meta(max_length=MAX_MEMBERS)]
    """Whom to dial."""
    clock: float
    """The inviter's clock, seconds since the epoch."""


JoinerFrame = PakeOffer | Proof | JoinRequest | Stored
InviterFrame = PakeAnswer | Proof | Wait | JoinGrant | Declined

_encoder = msgspec.msgpack.Encoder()
_from_joiner: msgspec.msgpack.Decoder[JoinerFrame] = msgspec.msgpack.Decoder(JoinerFrame)
_from_inviter: msgspec.msgpack.Decoder[InviterFrame] = msgspec.msgpack.Decoder(InviterFrame)
_wish = msgspec.msgpack.Decoder(Wish)
_grant = msgspec.msgpack.Decoder(Grant)


def encode_body(value: JoinerFrame | InviterFrame | Wish | Grant) -> bytes:
    """Return *value* as MessagePack."""
    return _encoder.encode(value)


def decode_from_joiner(body: bytes) -> JoinerFrame:
    """Return the frame in *body*, which a joiner sent.

    Raises:
        ProtocolError: it holds none.
    """
    return understood(_from_joiner, body)


def decode_from_inviter(body: bytes) -> InviterFrame:
    """Return the frame in *body*, which an inviter sent.

    Raises:
        ProtocolError: it holds none.
    """
    return understood(_from_inviter, body)


def decode_wish(body: bytes) -> Wish:
    """Return what is in the body of a JOIN-REQUEST.

    Raises:
        ProtocolError: it holds none.
    """
    return understood(_wish, body)


def decode_grant(body: bytes) -> Grant:
    """Return what is in the body of a JOIN-GRANT.

    Raises:
        ProtocolError: it holds none.
    """
    return understood(_grant, body)
