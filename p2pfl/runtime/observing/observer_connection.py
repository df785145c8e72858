"""One observer's connection: its send queue, and how it ends.

The node puts frames into the queue and never waits for an observer. An observer that reads too slowly fills
its queue; at a limit it is disconnected.
"""

from __future__ import annotations

import asyncio
from collections import deque

from p2pfl.net.transport.stream import FrameStream

HEARTBEAT_SECONDS = 1.0
"""Interval of heartbeats while there is nothing else to send."""

STUCK_SECONDS = 30.0
"""An observer that reads nothing for this time is disconnected, since a stopped process would occupy one of
the limited connections."""


class ObserverConnection:
    """The node's end of an observer's connection. Run `write` as a task; `ended` is done when it is over."""

    def __init__(self, stream: FrameStream, max_bytes: int, *, heartbeat: bytes, too_slow: bytes) -> None:
        """Hold at most *max_bytes*; *heartbeat* and *too_slow* are encoded frames."""
        self.stream = stream
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the connection is over."""
        self.closed = asyncio.Event()
        """Set by the task that serves the observer, once the connection is closed."""
        self._max_bytes = max_bytes
        self._heartbeat = heartbeat
        self._too_slow = too_slow
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._is_last = False

    def push(self, frame: bytes) -> None:
        """Queue *frame*; disconnect the observer if too much is queued."""
        if self.ended.done() or self._is_last:
            return
        if self._bytes + len(frame) > self._max_bytes:
            self._queue.clear()
            self.stream.transport.write(self._too_slow)  # an observer that is slow but alive can read it
            self.end(f"it reads too slowly: {self._bytes} bytes are queued for it")
            return
        self._queue.append(frame)
        self._bytes += len(frame)
        self._wake.set()

    async def room(self) -> None:
        """Wait until the queue is at most half full; call it between the frames of a long history."""
        await asyncio.sleep(0)  # let other tasks run in any case
        while self._bytes > self._max_bytes // 2 and not self.ended.done():
            self._sent.clear()
            await self._sent.wait()

    def finish(self, frame: bytes) -> None:
        """Send the queue, then *frame*, and end the connection."""
        self.push(frame)
        self._is_last = True

    def end(self, reason: str) -> None:
        """End the connection."""
        if not self.ended.done():
            self.ended.set_result(reason)
            self._sent.set()

    async def write(self) -> None:
        """Send queued frames and heartbeats until the connection ends."""
        try:
            while True:
                if self._queue:
                    frame = self._queue.popleft()
                    await self._send(frame)
                    self._bytes -= len(frame)
                    self._sent.set()
                elif self._is_last:
                    self.end("this node ends")
                    return
                else:
                    self._wake.clear()
                    try:
                        async with asyncio.timeout(HEARTBEAT_SECONDS):
                            await self._wake.wait()
                    except TimeoutError:
                        await self._send(self._heartbeat)
        except TimeoutError:
            self.end(f"it has read nothing for {STUCK_SECONDS:.0f} s")
        except OSError as error:
            self.end(f"the connection broke ({error.strerror or error})")

    async def _send(self, frame: bytes) -> None:
        """Send *frame*, and wait until the connection takes more.

        Raises:
            TimeoutError: the observer does not read.
            OSError: the connection broke.
        """
        async with asyncio.timeout(STUCK_SECONDS):
            await self.stream.write(frame)
