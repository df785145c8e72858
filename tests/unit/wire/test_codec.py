from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ProtocolError, VersionError
from p2pfl.messages import Ballot, GivenOption, Offer, Prepare, RecordsRequest, Status
from p2pfl.proofs import Claim
from p2pfl.statements import Statement
from p2pfl.wire import links
from p2pfl.wire.codec import ControlFrame, decode, encode
from tests.support.records import genesis

NODE = "a" * 52
RUN = "0" * 64
JOURNAL = "1" * 32
CLAIM = Claim(JOURNAL, 1, JOURNAL, 7, b"key", b"signature")
STATEMENT = Statement("kick", NODE, "ant", 5, 3, "why", b"certificate", b"signature")
FRAMES: list[ControlFrame] = [
    links.Hello("0.1.0", CLAIM, 9000, ("host:9000",), 1, 2, "", 0),
    links.Welcome("0.1.0", CLAIM, 9000, (), 1, 5),
    links.Ready(3),
    links.Refusal("cloned", "a copy", CLAIM),
    links.Ping(),
    links.Pong(),
    links.Peers((links.PeerAddresses(NODE, "ant", ("[::1]:9000",)),)),
    links.Refusal("excluded", "it is banned", statement=STATEMENT, revocations=b"list"),
    links.Statements((STATEMENT,)),
    links.RevocationList(b"list"),
    links.Bye("leaving"),
    RecordsRequest(RUN, -1),
    Prepare(RUN, 1, Ballot(1, NODE)),
    Status(
        "",
        0,
        "",
        False,
        False,
        3,
        False,
        "idle",
        0.0,
        0.0,
        1,
        True,
        2,
        False,
        (GivenOption("rounds", "5"),),
        1,
        True,
        7,
    ),
]

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


def complaint(body: bytes) -> str:
    """Return what the decoder says against *body*, "" when it takes it; only a ProtocolError may come."""
    try:
        decode(body)
    except ProtocolError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_equal(frame: ControlFrame) -> None:
    assert decode(encode(frame)) == frame


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    assert len(complaint(body)) < 300


@given(st.sampled_from(FRAMES), st.data())
def test_a_frame_with_any_field_replaced_is_a_frame_or_a_protocol_error(
    frame: ControlFrame, data: st.DataObject
) -> None:
    fields = msgspec.msgpack.decode(encode(frame))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(plain)
    said = complaint(msgspec.msgpack.encode(fields))
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"type": "format disk"}, "format disk"),
        ({"type": "bye"}, "reason"),
        ({"type": "bye", "reason": "x" * 301}, "length <= 300"),
        ({"type": "ping", "more": 1}, "more"),
        ({"type": "ready", "order": -1}, "order"),
        ({"type": "peers", "peers": [{"node": "UPPER", "name": "n", "addresses": []}]}, "node"),
        ([1, 2], "array"),
        (None, "None"),
    ],
)
def test_what_is_wrong_is_said(body: object, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode(msgspec.msgpack.encode(body))


def test_bytes_after_a_frame_are_refused() -> None:
    with pytest.raises(ProtocolError, match="trailing"):
        decode(encode(links.Ping()) + b"\xc0")


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    with pytest.raises(ProtocolError):
        decode(b"\x82\xa4type\xa3bye\xa6reason" + b"\x91" * 500_000)


def test_a_spec_of_a_newer_version_is_refused_with_who_must_be_upgraded() -> None:
    fields = msgspec.msgpack.decode(encode(Offer(genesis())))
    fields["genesis"]["spec"]["strategy"] = {"type": "fednew", "mu": 0.1}
    with pytest.raises(VersionError) as caught:
        decode(msgspec.msgpack.encode(fields))
    assert str(caught.value) == (
        "its run has the strategy 'fednew', which this device's p2pfl does not know: upgrade p2pfl on this device"
    )
    assert caught.value.for_peer == (
        "your run has the strategy 'fednew', which the p2pfl of the device that says this does not know: upgrade "
        "p2pfl there"
    )
