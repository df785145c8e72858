"""The codec of control frames: values to MessagePack bodies and back.

One decoder knows all frames and checks types and bounds while it reads, so the code behind it needs no checks
of its own. Nothing from a peer is ever unpickled: that would run the peer's code.
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
"""Everything that a frame of a control connection may hold."""

Frame = TypeVar("Frame")

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ControlFrame] = msgspec.msgpack.Decoder(ControlFrame)


def encode(frame: ControlFrame) -> bytes:
    """Return the body of *frame*."""
    return _encoder.encode(frame)


def decode(body: bytes) -> ControlFrame:
    """Return the frame in *body*.

    Raises:
        VersionError: it holds a specification with a tag this version does not know.
        ProtocolError: it is not MessagePack, has an unknown tag, or a field that is missing, unknown,
        mistyped or out of bounds.
    """
    return understood(_decoder, body)


def understood(decoder: msgspec.msgpack.Decoder[Frame], body: bytes) -> Frame:
    """Decode *body* with *decoder*.

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
