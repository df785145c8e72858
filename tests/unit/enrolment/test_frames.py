from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.enrolment.frames import (
    MAX_MEMBERS,
    Declined,
    Grant,
    JoinGrant,
    JoinRequest,
    PakeAnswer,
    PakeOffer,
    Proof,
    Stored,
    Wait,
    Wish,
    decode_from_inviter,
    decode_from_joiner,
    decode_grant,
    decode_wish,
    encode_body,
)
from p2pfl.errors import ProtocolError
from p2pfl.identity.known_peers import KnownPeer

PEER = KnownPeer("a" * 52, "ant", ("192.0.2.7:9000",), 1.0)

FROM_JOINER = [
    PakeOffer(1, bytes(32), bytes(33)),
    Proof(bytes(32)),
    JoinRequest(b"body", bytes(32)),
    Stored(),
]
FROM_INVITER = [
    PakeAnswer(bytes(32), bytes(33)),
    Proof(bytes(32)),
    Wait(),
    JoinGrant(b"body", bytes(32)),
    Declined("code", left=4),
    Declined("clock", clock=1.5),
]


@pytest.mark.parametrize("frame", FROM_JOINER, ids=lambda frame: type(frame).__name__)
def test_a_frame_of_a_joiner_comes_back_as_it_was(frame: Any) -> None:
    assert decode_from_joiner(encode_body(frame)) == frame


@pytest.mark.parametrize("frame", FROM_INVITER, ids=lambda frame: type(frame).__name__)
def test_a_frame_of_an_inviter_comes_back_as_it_was(frame: Any) -> None:
    assert decode_from_inviter(encode_body(frame)) == frame


def test_a_wish_and_a_membership_come_back_as_they_were() -> None:
    wish, grant = Wish(b"csr", "ant", 1.0), Grant(b"a", b"b", (PEER,), 2.0)
    assert decode_wish(encode_body(wish)) == wish
    assert decode_grant(encode_body(grant)) == grant


@pytest.mark.parametrize(
    "frame",
    [
        PakeOffer(1, bytes(31), bytes(33)),
        PakeOffer(1, bytes(32), bytes(34)),
        PakeOffer(0, bytes(32), bytes(33)),
        Proof(bytes(31)),
        JoinRequest(bytes(16 * 1024 + 1), bytes(32)),
        Wait(),
    ],
)
def test_what_is_out_of_bounds_or_not_the_joiners_is_refused(frame: Any) -> None:
    with pytest.raises(ProtocolError, match="cannot be understood"):
        decode_from_joiner(encode_body(frame))


def test_bodies_have_bounds() -> None:
    for wish in (
        Wish(b"", "ant", 1.0),
        Wish(bytes(8193), "ant", 1.0),
        Wish(b"csr", "", 1.0),
        Wish(b"csr", "a" * 64, 1.0),
    ):
        with pytest.raises(ProtocolError):
            decode_wish(encode_body(wish))
    for members in ((PEER,) * (MAX_MEMBERS + 1), (msgspec.structs.replace(PEER, node="x"),)):
        with pytest.raises(ProtocolError):
            decode_grant(encode_body(Grant(b"a", b"b", members, 1.0)))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_from_joiner(msgspec.msgpack.encode({"type": "stored", "more": 1}))


@given(st.binary(max_size=400))
def test_rubbish_raises_the_documented_error_only(body: bytes) -> None:
    for decoder in (decode_from_joiner, decode_from_inviter, decode_wish, decode_grant):
        try:
            decoder(body)
        except ProtocolError:
            continue
