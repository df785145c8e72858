"""The frames around a blob on a bulk connection.

    puller    frame(BlobRequest) ->
    holder        <- 8-byte big-endian length of the whole blob, then its bytes from the offset on
                     or 8 bytes of 0xff, then frame(BlobRefusal)

The length is that of the whole blob, although only the rest follows: the puller compares it with the only
acceptable length before it makes room for a byte. A connection carries any number of blobs one after another:
the puller sends the next request after it has read the last answer.

A request may also ask for a measurement of the way, for `p2pfl doctor`:

    dialer    frame(MeasureRequest) ->
    holder        <- 8-byte big-endian length of the rest, then frame(MeasureReply) and arbitrary bytes
                     or 8 bytes of 0xff, then frame(BlobRefusal)

The puller may be the dialer or the listener. A holder that dials, because it was called over the link
(`p2pfl.wire.links.Call`), first sends frame(Serve); then requests follow as on any other connection.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from p2pfl.errors import BlobError, ProtocolError
from p2pfl.messages import Digest, Name, NodeId, Reason, Struct
from p2pfl.proofs import Nonce
from p2pfl.text import one_line
from p2pfl.wire.frames import encode_frame

LENGTH_BYTES = 8

REFUSED = 2**64 - 1
"""Sent in place of a length when a refusal follows; no file is that long."""

MAX_BULK_FRAME_BYTES = 2048
"""A request has about 120 bytes, one to measure with up to 1,550, a refusal with the longest reason in
four-byte characters 1,250."""

MAX_MEASURED_BYTES = 1024 * 1024
"""Bytes of one measurement: enough for a rate on a fast network, few enough for a slow one."""

MAX_PADDING_BYTES = 1500
"""The padding of a request: as long as an Ethernet packet."""

MAX_LINKED = 256
"""Nodes in a reply: a roster has no more."""

MAX_REPLY_BYTES = 128 * 1024
"""256 nodes with the longest names in four-byte characters need 85 KB."""


class BlobRequest(Struct, frozen=True, tag="pull"):
    """Asks for blob *digest* from byte *offset* on."""

    digest: Digest
    offset: Annotated[int, Meta(ge=0, le=2**62)]


class MeasureRequest(Struct, frozen=True, tag="measure"):
    """Asks for the holder's clock, version and links, and for bytes to measure the way with."""

    size: Annotated[int, Meta(ge=0, le=MAX_MEASURED_BYTES)]
    """Number of arbitrary bytes behind the reply."""
    padding: Annotated[bytes, Meta(max_length=MAX_PADDING_BYTES)] = b""
    """Ignored: makes the request as long as a packet."""


class LinkedNode(Struct, frozen=True):
    """A node that the holder is linked to."""

    node: NodeId
    name: Name


class MeasureReply(Struct, frozen=True, tag="measured"):
    """What the holder says about itself."""

    time: Annotated[float, Meta(ge=0, le=2**53)]
    """Seconds since the epoch by its clock, when it answers."""
    software: Annotated[str, Meta(min_length=1, max_length=64)]
    """Its version of p2pfl."""
    links: Annotated[tuple[LinkedNode, ...], Meta(max_length=MAX_LINKED)]


BulkRequest = BlobRequest | MeasureRequest
"""All requests on a bulk connection."""


class Serve(Struct, frozen=True, tag="serve"):
    """Sent by a holder that dials because it was called: requests may follow on this connection."""

    ticket: Nonce
    """Ticket of the call."""


BulkOpening = BlobRequest | MeasureRequest | Serve
"""The dialer's first frame of a bulk connection."""


class BlobRefusal(Struct, frozen=True, tag="no"):
    """The holder does not send the blob."""

    code: Literal["absent", "busy", "offset", "role", "protocol"]
    """"busy": ask again later; "absent": ask elsewhere."""
    reason: Reason


Opening = TypeVar("Opening", BulkRequest, BulkOpening)

_encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[BulkRequest] = msgspec.msgpack.Decoder(BulkRequest)
_openings: msgspec.msgpack.Decoder[BulkOpening] = msgspec.msgpack.Decoder(BulkOpening)
_refusals = msgspec.msgpack.Decoder(BlobRefusal)
_replies = msgspec.msgpack.Decoder(MeasureReply)


def encode_request(request: BulkRequest) -> bytes:
    """Return *request* as a frame."""
    return encode_frame(_encode(request), MAX_BULK_FRAME_BYTES)


def decode_request(body: bytes) -> BulkRequest:
    """Return the request in a frame's *body*.

    Raises:
        ProtocolError: it is no such frame.
    """
    return _understood(_requests, body)


def encode_serve(serve: Serve) -> bytes:
    """Return *serve* as a frame."""
    return encode_frame(_encode(serve), MAX_BULK_FRAME_BYTES)


def decode_opening(body: bytes) -> BulkOpening:
    """Return the dialer's first frame of a bulk connection.

    Raises:
        ProtocolError: it is neither a request nor an offer to serve.
    """
    return _understood(_openings, body)


def encode_length(length: int) -> bytes:
    """Return the length in front of a blob's bytes."""
    return length.to_bytes(LENGTH_BYTES, "big")


def encode_reply(reply: MeasureReply, size: int) -> bytes:
    """Return the answer to a measurement, without the *size* arbitrary bytes at its end."""
    frame = encode_frame(_encode(reply), MAX_REPLY_BYTES)
    return encode_length(len(frame) + size) + frame


def decode_reply(body: bytes) -> MeasureReply:
    """Return the reply in a frame's *body*.

    Raises:
        ProtocolError: it is no such frame.
    """
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"the reply to a measurement, of {len(body)} bytes, cannot be understood: {one_line(str(error))}"
        ) from error


def encode_refusal(refusal: BlobRefusal) -> bytes:
    """Return the whole answer that refuses a blob."""
    return encode_length(REFUSED) + encode_frame(_encode(refusal), MAX_BULK_FRAME_BYTES)


def decode_refusal(body: bytes) -> BlobRefusal:
    """Return the refusal in a frame's *body*.

    Raises:
        ProtocolError: it is no such frame.
    """
    try:
        return _refusals.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"a blob refusal of {len(body)} bytes cannot be understood: {one_line(str(error))}"
        ) from error


def check_announced(announced: int, expected: int) -> None:
    """Check the length that a holder *announced*.

    Raises:
        BlobError: it is not the *expected* one.
    """
    if announced != expected:
        raise BlobError(f"a blob of {announced} bytes was announced where only one of {expected} bytes fits")


def _understood(decoder: msgspec.msgpack.Decoder[Opening], body: bytes) -> Opening:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(
            f"a blob request of {len(body)} bytes cannot be understood: {one_line(str(error))}"
        ) from error
