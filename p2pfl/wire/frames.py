"""Frames: a 4-byte big-endian length, then that many bytes.

Sans-IO, so that the same code serves every transport, the tests and the fuzzer. The length is checked as soon
as its four bytes are here: a peer that announces 4 GiB makes this node store four bytes.
"""

from __future__ import annotations

from p2pfl.errors import FrameError

HEADER_BYTES = 4


def encode_frame(body: bytes, max_bytes: int) -> bytes:
    """Return *body* as a frame.

    Raises:
        FrameError: the body is empty or longer than *max_bytes*: the receiver would end the link.
    """
    _check_length(len(body), max_bytes)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameDecoder:
    """Cuts a byte stream into the bodies of its frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview = b"") -> list[bytes]:
        """Append the next bytes of the stream; return the bodies that are complete now, in order.

        Frames before a bad one are returned first, and the next call raises: the last frames of a peer count.

        Raises:
            FrameError: the next frame is empty or longer than the limit; the rest of the stream is unusable.
        """
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            length = int.from_bytes(self._buffer[start : start + HEADER_BYTES], "big")
            try:
                _check_length(length, self._max_bytes)
            except FrameError:
                if not bodies:
                    raise
                break
            end = start + HEADER_BYTES + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + HEADER_BYTES : end]))
            start = end
        del self._buffer[:start]
        return bodies

    @property
    def is_inside(self) -> bool:
        """Whether only a part of a frame has arrived so far."""
        return bool(self._buffer)

    def end(self) -> None:
        """Tell the decoder that the stream has ended.

        Raises:
            FrameError: it ended inside a frame.
        """
        if self._buffer:
            raise FrameError(
                f"the connection ended inside a frame, {len(self._buffer)} bytes after its start"
            )


def _check_length(length: int, max_bytes: int) -> None:
    if length == 0:
        raise FrameError(f"a frame of 0 bytes was announced; every frame has 1 to {max_bytes} bytes")
    if length > max_bytes:
        raise FrameError(f"a frame of {length} bytes was announced; at most {max_bytes} are allowed")
