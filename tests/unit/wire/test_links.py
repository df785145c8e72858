from __future__ import annotations

import pytest

from p2pfl.config import NetSettings
from p2pfl.errors import ProtocolError
from p2pfl.proofs import sign_claim
from p2pfl.statements import MAX_CERTIFICATE_BYTES, MAX_CRL_BYTES, Statement
from p2pfl.wire import links
from p2pfl.wire.codec import ControlFrame, decode, encode
from tests.support.core import member
from tests.support.keys import signer

NODE = "a" * 52
LONGEST = Statement(
    "unban",
    NODE,
    "\U0001f600" * 64,
    2**53,
    2**53,
    "\U0001f600" * 300,
    bytes(MAX_CERTIFICATE_BYTES),
    bytes(128),
)
"""The longest statement there is."""


def test_the_longest_peers_frame_that_is_sent_fits_a_frame() -> None:
    entry = links.PeerAddresses(NODE, "\U0001f600" * 64, ("h" * 253 + ":65535",) * 4)
    assert len(encode(links.Peers((entry,) * links.MAX_PEERS))) < NetSettings().max_frame_bytes


def test_the_longest_frames_about_members_fit_a_frame() -> None:
    limit = NetSettings().max_frame_bytes
    assert len(encode(links.Statements((LONGEST,) * links.MAX_STATEMENTS_OF_FRAME))) < limit
    assert len(encode(links.RevocationList(bytes(MAX_CRL_BYTES)))) < limit


def test_an_introduction_names_the_journal_the_start_and_the_process_that_it_has_signed() -> None:
    claim = sign_claim(signer("ada"), member("ada"), 7, "ab" * 16, 3)
    hello = links.Hello("p2pfl", claim, 4000, (), 2, 2, "", 0)
    assert (hello.journal, hello.incarnation, hello.nonce) == (member("ada").journal, 7, "ab" * 16)


@pytest.mark.parametrize(
    "frame",
    [
        links.Peers((links.PeerAddresses(NODE, "n", ()),) * (links.MAX_PEERS + 1)),
        links.Peers((links.PeerAddresses(NODE, "n", ("h:1",) * (links.MAX_ADDRESSES + 1)),)),
        links.Peers((links.PeerAddresses(NODE, "n", ("h" * 301,)),)),
        links.Statements((LONGEST,) * (links.MAX_STATEMENTS_OF_FRAME + 1)),
        links.RevocationList(bytes(MAX_CRL_BYTES + 1)),
    ],
)
def test_more_than_the_limits_is_refused(frame: ControlFrame) -> None:
    with pytest.raises(ProtocolError, match="length"):
        decode(encode(frame))
