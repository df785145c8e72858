"""A link: one control connection between two nodes that have agreed on it.

It carries frames both ways until one side says BYE, breaks the protocol, or falls silent. Silence has its own
deadline since a half-open TCP connection says nothing by itself; each side pings when it has sent nothing
else for a while. What waits to be sent is bounded: a peer that does not read loses its link instead of
filling this node's memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from p2pfl.config import NetSettings
from p2pfl.errors import FrameError, PeerError
from p2pfl.messages import Message
from p2pfl.net.handshake import MAX_REASON_CHARACTERS
from p2pfl.net.peers import Peer
from p2pfl.net.stream import FrameStream
from p2pfl.wire.codec import ControlFrame, bounded
from p2pfl.wire.links import Bye, Hello, Peers, Ping, Pong, Ready, Refusal, Welcome

logger = logging.getLogger(__name__)

SECOND_LOOK = 0.2
"""Share of the silence deadline a silent peer gets once more: this node may itself have been busy or asleep,
and the peer's bytes lie unread in the kernel."""

RTT_SECONDS = 2.0
"""Between pings on a link that is never idle, so that its round-trip time is known all the same."""


class Link:
    """An established link. Call `run` once; it returns when the link has ended."""

    def __init__(
        self,
        stream: FrameStream,
        peer: Peer,
        order: int,
        settings: NetSettings,
        on_frame: Callable[[Link, Peers | Message], None],
    ) -> None:
        self.stream = stream
        self.peer = peer
        self.order = order
        self._settings = settings
        self._on_frame = on_frame
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing: str | None = None
        self._is_polite = False
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pinged_at: float | None = None
        """When the ping that is not answered yet went out, on the event loop's clock."""
        self._ping_at = 0.0
        """When the next ping is due although there is something else to send."""
        self.rtt: float | None = None
        """Seconds from the last answered ping to its answer; None before the first."""

    def send(self, frame: ControlFrame) -> bool:
        """Queue *frame*; return False when it cannot be sent: the link ends, or the frame is too long."""
        if self._closing is not None or self._ended.done():
            return False
        try:
            data = self.stream.encode(frame)
        except FrameError as error:
            logger.error("a %s for %s was not sent: %s", type(frame).__name__, self.peer.name, error)
            return False
        if self._queued_bytes + len(data) > self._settings.max_queue_bytes:
            self.cut(f"it does not read: {self._queued_bytes} bytes wait to be sent to it")
            return False
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._wake.set()
        return True

    def close(self, reason: str) -> None:
        """Send what is queued, then BYE with *reason*, then close."""
        if self.send(Bye(bounded(reason, MAX_REASON_CHARACTERS))):
            self._closing = reason

    def cut(self, reason: str) -> None:
        """End the link at once; what is queued is lost."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def run(self) -> str:
        """Read and write until the link ends; return why, in half a sentence. Call `end` after that."""
        tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._write()),
        ]
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait([self._ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    self.cut(task.result())
            self._is_polite = any(task.done() for task in tasks)
            return await self._ended
        except BaseException:
            self.stream.abort()
            raise
        finally:
            for running in (*tasks, watch):
                running.cancel()
            await asyncio.wait([*tasks, watch])

    async def end(self) -> None:
        """Close the connection: after last words, where it was not cut."""
        if self._is_polite:
            await self.stream.finish()
        else:
            self.stream.abort()

    async def _read(self) -> str:
        """Pass frames on until no more come; return why."""
        try:
            while (frame := await self.stream.next()) is not None:
                match frame:
                    case Ping():
                        self.send(Pong())
                    case Pong():
                        self._ponged()
                    case Bye():
                        return f"it said goodbye: {bounded(frame.reason, MAX_REASON_CHARACTERS)}"
                    case Refusal():
                        return f"it ended the link: {bounded(frame.reason, MAX_REASON_CHARACTERS)}"
                    case Hello() | Welcome() | Ready():
                        return await self._broken(f"a second {type(frame).__name__.upper()} came")
                    case _:
                        self._on_frame(self, frame)
        except PeerError as error:
            return await self._broken(str(error))
        except OSError as error:
            return f"the connection broke ({error.strerror or error})"
        return "it closed the connection"

    def _ponged(self) -> None:
        if self._pinged_at is not None:
            self.rtt = asyncio.get_running_loop().time() - self._pinged_at
            self._pinged_at = None

    async def _broken(self, what: str) -> str:
        """Tell the peer that it broke the protocol."""
        try:
            await self.stream.send(Refusal("protocol", bounded(what, MAX_REASON_CHARACTERS)))
        except OSError as error:
            logger.debug("%s was not told that it broke the protocol: %s", self.peer.name, error)
        return f"it broke the protocol: {what}"

    async def _write(self) -> str:
        """Send what is queued, and pings, until the BYE is out or the connection breaks; return why."""
        try:
            while True:
                if self._queue:
                    data = b"".join(self._queue)
                    queued = len(data)
                    self._queue.clear()
                    self._wake.clear()
                    if asyncio.get_running_loop().time() >= self._ping_at:
                        data += self._ping()
                    await self.stream.write(data)
                    self._queued_bytes -= queued
                elif self._closing is not None:
                    return self._closing
                else:
                    try:
                        async with asyncio.timeout(self._settings.ping_seconds):
                            await self._wake.wait()
                    except TimeoutError:
                        await self.stream.write(self._ping())
        except OSError as error:
            return f"the connection broke ({error.strerror or error})"

    def _ping(self) -> bytes:
        """Return a ping, of which the time is taken if no earlier one is open."""
        now = asyncio.get_running_loop().time()
        self._ping_at = now + RTT_SECONDS
        if self._pinged_at is None:
            self._pinged_at = now
        return self.stream.encode(Ping())

    async def _watch(self) -> None:
        """Cut the link when nothing has been heard for too long."""
        loop = asyncio.get_running_loop()
        silence = self._settings.silence_seconds
        while True:
            heard_at = self.stream.heard_at
            await asyncio.sleep(max(0.0, heard_at + silence - loop.time()))
            if self.stream.heard_at != heard_at:
                continue
            await asyncio.sleep(silence * SECOND_LOOK)
            if self.stream.heard_at == heard_at:
                self.cut(f"nothing was heard from it for {silence:g} s")
                return
