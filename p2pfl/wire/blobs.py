"""The frames around a blob on a bulk connection.

    puller    frame(BlobRequest) ->
    holder        <- 8-byte big-endian length of the whole blob, then its bytes from the offset on
                     or 8 bytes of 0xff, then frame(BlobRefusal)

The length is that of the whole blob, although only the rest follows: the puller compares it with the only
acceptable length before it makes room for a byte. A connection carries any number of blobs one after another:
the puller sends the next request after it has read the last answer.

The puller may be the dialer or the listener. A holder that dials, because it was called over the link
(`p2pfl.wire.links.Call`), first sends frame(Serve); then requests follow as on any other connection.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from p2pfl.errors import BlobError, ProtocolError
from p2pfl.messages import Digest, Reason, Struct
from p2pfl.proofs import Nonce
from p2pfl.text import one_line
from p2pfl.wire.frames import encode_frame

LENGTH_BYTES = 8

REFUSED = 2**64 - 1
"""Sent in place of a length when a refusal follows; no file is that long."""

MAX_BULK_FRAME_BYTES = 2048
"""A request has about 120 bytes, a refusal with the longest reason in four-byte characters 1,250."""


class BlobRequest(Struct, frozen=True, tag="pull"):
    """Asks for blob *digest* from byte *offset* on."""

    digest: Digest
    offset: Annotated[int, Meta(ge=0, le=2**62)]


class Serve(Struct, frozen=True, tag="serve"):
    """Sent by a holder that dials because it was called: requests may follow on this connection."""

    ticket: Nonce
    """Ticket of the call."""


BulkOpening = BlobRequest | Serve
"""The dialer's first frame of a bulk connection."""


class BlobRefusal(Struct, frozen=True, tag="no"):
    """The holder does not send the blob."""

    code: Literal["absent", "busy", "offset", "role", "protocol"]
    """"busy": ask again later; "absent": ask elsewhere."""
    reason: Reason


Opening = TypeVar("Opening", BlobRequest, BulkOpening)

_encode = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(BlobRequest)
_openings: msgspec.msgpack.Decoder[BulkOpening] = msgspec.msgpack.Decoder(BulkOpening)
_refusals = msgspec.msgpack.Decoder(BlobRefusal)


def encode_request(request: BlobRequest) -> bytes:
    """Return *request* as a frame."""
    return encode_frame(_encode(request), MAX_BULK_FRAME_BYTES)


def decode_request(body: bytes) -> BlobRequest:
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
