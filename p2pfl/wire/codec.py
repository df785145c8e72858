"""Values to frame bodies (MessagePack) and back.

One decoder knows every frame there is and checks types and bounds while it reads: nobody behind it sees a
value it would have to doubt. Nothing from a peer is ever unpickled: that would run its code.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from p2pfl.errors import ProtocolError, VersionError
from p2pfl.messages import Message
from p2pfl.spec import unknown_tag
from p2pfl.text import one_line
from p2pfl.wire.links import LinkFrame

ControlFrame = LinkFrame | Message
"""Whatever may be in a frame of a control connection."""

Frame = TypeVar("Frame")

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ControlFrame] = msgspec.msgpack.Decoder(ControlFrame)


def encode(frame: ControlFrame) -> bytes:
    """Return the body of *frame*."""
    return _encoder.encode(frame)


def decode(body: bytes) -> ControlFrame:
    """Return what *body* says.

    Raises:
        VersionError: it holds a specification with a tag this version does not know.
        ProtocolError: it is not MessagePack, has an unknown tag, or a field that is missing, unknown,
        mistyped or out of bounds.
    """
    return understood(_decoder, body)


def understood(decoder: msgspec.msgpack.Decoder[Frame], body: bytes) -> Frame:
    """Return what *decoder* makes of *body*.

    Raises:
        ProtocolError: it is not MessagePack, has an unknown tag, or a field that is missing, unknown,
        mistyped or out of bounds.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if what := unknown_tag(error):
            raise VersionError(what) from error
        raise ProtocolError(
            f"a frame of {len(body)} bytes cannot be understood: {one_line(str(error))}"
        ) from error
