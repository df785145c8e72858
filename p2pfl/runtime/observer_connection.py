"""One observer's connection: what waits to be sent on it, and how it ends.

Whoever has something to tell puts it into the queue and goes on; nobody ever waits for an observer. What it
does not read piles up here, up to a limit, and then it is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque

from p2pfl.net.stream import FrameStream

HEARTBEAT_SECONDS = 1.0
"""Between signs of life to an observer who is told nothing else."""


STUCK_SECONDS = 30.0
"""An observer that takes nothing for so long is dropped: a stopped process would keep its place for ever."""


class ObserverConnection:
    """The node's end of an observer's connection. Run `write` as a task; `ended` tells when it is over."""

    def __init__(self, stream: FrameStream, max_bytes: int, *, beat: bytes, too_slow: bytes) -> None:
        """Hold at most *max_bytes*; *beat* and *too_slow* are the frames that say so."""
        self.stream = stream
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the connection is over, in half a sentence."""
        self.closed = asyncio.Event()
        """Set by who serves it, once the connection is closed."""
        self._max_bytes = max_bytes
        self._beat = beat
        self._too_slow = too_slow
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._is_last = False

    def push(self, frame: bytes) -> None:
        """Queue *frame*; who lets too much wait is dropped."""
        if self.ended.done() or self._is_last:
            return
        if self._bytes + len(frame) > self._max_bytes:
            self._queue.clear()
            self.stream.transport.write(self._too_slow)  # for who was only slow, not dead
            self.end(f"it reads too slowly: {self._bytes} bytes wait to be sent to it")
            return
        self._queue.append(frame)
        self._bytes += len(frame)
        self._wake.set()

    async def room(self) -> None:
        """Wait until no more than half of what may wait does: for who has much to tell only this observer."""
        await asyncio.sleep(0)  # whatever there is room for, others have their turn
        while self._bytes > self._max_bytes // 2 and not self.ended.done():
            self._sent.clear()
            await self._sent.wait()

    def finish(self, frame: bytes) -> None:
        """Send what is queued, then *frame*, and end."""
        self.push(frame)
        self._is_last = True

    def end(self, reason: str) -> None:
        """End the connection."""
        if not self.ended.done():
            self.ended.set_result(reason)
            self._sent.set()

    async def write(self) -> None:
        """Send what is queued, and beats, until the connection ends."""
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
                        await self._send(self._beat)
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
