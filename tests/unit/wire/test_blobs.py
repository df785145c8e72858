from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import BlobError, ProtocolError
from p2pfl.wire.blobs import (
    LENGTH_BYTES,
    MAX_BULK_FRAME_BYTES,
    MAX_LINKED,
    MAX_MEASURED_BYTES,
    MAX_PADDING_BYTES,
    MAX_REPLY_BYTES,
    REFUSED,
    BlobRefusal,
    BlobRequest,
    LinkedNode,
    MeasureReply,
    MeasureRequest,
    Serve,
    check_announced,
    decode_opening,
    decode_refusal,
    decode_reply,
    decode_request,
    encode_length,
    encode_refusal,
    encode_reply,
    encode_request,
    encode_serve,
)
from p2pfl.wire.frames import FrameDecoder

DIGEST = "ab" * 32
SERVE = Serve("cd" * 16)


def test_a_request_comes_back_equal() -> None:
    request = BlobRequest(DIGEST, 2**40)
    [body] = FrameDecoder(MAX_BULK_FRAME_BYTES).feed(encode_request(request))
    assert decode_request(body) == request


def test_the_longest_refusal_fits_its_frame_and_comes_back_equal() -> None:
    refusal = BlobRefusal("busy", "\U0001f600" * 300)
    answer = encode_refusal(refusal)
    assert int.from_bytes(answer[:LENGTH_BYTES], "big") == REFUSED
    [body] = FrameDecoder(MAX_BULK_FRAME_BYTES).feed(answer[LENGTH_BYTES:])
    assert decode_refusal(body) == refusal


@pytest.mark.parametrize("digest", ["../../etc/passwd", DIGEST.upper(), DIGEST + "0", DIGEST + "\n", ""])
def test_only_a_digest_is_asked_for(digest: str) -> None:
    with pytest.raises(ProtocolError, match="blob request"):
        decode_request(msgspec.msgpack.encode({"type": "pull", "digest": digest, "offset": 0}))


def test_a_negative_offset_is_refused() -> None:
    with pytest.raises(ProtocolError, match="offset"):
        decode_request(msgspec.msgpack.encode({"type": "pull", "digest": DIGEST, "offset": -1}))


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_a_protocol_error(body: bytes) -> None:
    for decode in (decode_request, decode_refusal, decode_reply):
        with pytest.raises(ProtocolError) as caught:
            decode(body)
        assert len(str(caught.value)) < 300


def test_the_longest_reply_to_a_measurement_fits_its_frame_and_comes_back_equal() -> None:
    links = tuple(LinkedNode("a" * 52, "\U0001f600" * 64) for _ in range(MAX_LINKED))
    reply = MeasureReply(1.5e9, "\U0001f600" * 64, links)
    answer = encode_reply(reply, 1000)
    assert int.from_bytes(answer[:LENGTH_BYTES], "big") == len(answer) - LENGTH_BYTES + 1000
    [body] = FrameDecoder(MAX_REPLY_BYTES).feed(answer[LENGTH_BYTES:])
    assert decode_reply(body) == reply


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": MAX_MEASURED_BYTES + 1}, "size"),
        ({"size": -1}, "size"),
        ({"size": 0, "padding": bytes(MAX_PADDING_BYTES + 1)}, "padding"),
    ],
)
def test_a_measurement_is_bounded(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode_request(msgspec.msgpack.encode({"type": "measure", **fields}))


def test_only_the_expected_length_is_accepted() -> None:
    check_announced(int.from_bytes(encode_length(700), "big"), 700)
    with pytest.raises(BlobError, match="a blob of 701 bytes was announced where only one of 700 bytes fits"):
        check_announced(701, 700)


@pytest.mark.parametrize(
    ("opening", "encode"),
    [
        (BlobRequest(DIGEST, 7), encode_request),
        (MeasureRequest(MAX_MEASURED_BYTES, bytes(MAX_PADDING_BYTES)), encode_request),
        (SERVE, encode_serve),
    ],
    ids=["pull", "measure", "serve"],
)
def test_either_opening_of_a_bulk_connection_comes_back_equal(opening: Any, encode: Any) -> None:
    [body] = FrameDecoder(MAX_BULK_FRAME_BYTES).feed(encode(opening))
    assert decode_opening(body) == opening


def test_an_offer_to_serve_is_no_request() -> None:
    [body] = FrameDecoder(MAX_BULK_FRAME_BYTES).feed(encode_serve(SERVE))
    with pytest.raises(ProtocolError, match="blob request"):
        decode_request(body)
