"""A connection without a network: the test is the other end of a `FrameStream`."""

from __future__ import annotations

import asyncio

from p2pfl.net.transport.stream import FrameStream, StreamProtocol


class NearEnd(asyncio.Transport):
    """The transport under a `FrameStream`: it records writes, and delivers what the test sends."""

    def __init__(self, max_frame_bytes: int) -> None:
        super().__init__()
        self._protocol = StreamProtocol()
        self._protocol.connection_made(self)
        self._is_closed = False
        self.written = bytearray()
        self.stream = FrameStream(self, self._protocol, max_frame_bytes)

    # --- the other side -------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Deliver *data*."""
        self._protocol.data_received(data)

    def receive_end(self) -> None:
        """Close the other side."""
        self._protocol.eof_received()

    def stop_reading(self) -> None:
        """Buffer writes, as if the other side did not read."""
        self._protocol.pause_writing()

    def read_on(self) -> None:
        """Accept writes again."""
        self._protocol.resume_writing()

    @property
    def is_closed(self) -> bool:
        """Whether this side has closed."""
        return self._is_closed

    # --- asyncio.Transport ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
