"""A link: one control connection between two nodes that have agreed on it.

It carries frames both ways until one side says BYE, breaks the protocol, or falls silent. Silence has its own
deadline since a half-open TCP connection says nothing by itself; each side pings when it has sent nothing
else for a while. What waits to be sent is bounded: a peer that does not read loses its link instead of
filling this node's memory.

A link works where bytes arrive and where frames are sent, without a task of its own in between: frames are
handled as soon as they are read, what is sent in one turn of the event loop goes out at its end as one write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from p2pfl.config import NetSettings
from p2pfl.errors import FrameError, PeerError, VersionError
from p2pfl.messages import Message
from p2pfl.net.links.handshake import MAX_REASON_CHARACTERS
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.links.rate_limits import Gate, Verdict
from p2pfl.net.transport.stream import FrameStream
from p2pfl.text import one_line
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Bye, Call, CallFailed, Hello, Peers, Ping, Pong, Ready, Refusal, Welcome

logger = logging.getLogger(__name__)

SECOND_LOOK = 0.2
"""Share of the silence deadline a silent peer gets once more: this node may itself have been busy or asleep,
and the peer's bytes lie unread in the kernel."""

RTT_SECONDS = 2.0
"""Between pings on a link that is never idle, so that its round-trip time is known all the same."""

Brought = Peers | Call | CallFailed | Message
"""What a link brings that is not its own affair."""


class Link:
    """An established link. Call `run` once; it returns when the link has ended."""

    def __init__(
        self,
        stream: FrameStream,
        peer: LinkedPeer,
        order: int,
        settings: NetSettings,
        on_frame: Callable[[Link, Brought], None],
        gate: Gate | None = None,
    ) -> None:
        """Run nothing yet; *gate* judges how much the peer may send, without one that is anything."""
        self.stream = stream
        self.peer = peer
        self.order = order
        self._settings = settings
        self._on_frame = on_frame
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        """In the queue, and in a connection that is full."""
        self._is_flush_due = False
        self._too_long: set[type[ControlFrame]] = set()
        """Kinds of frames of which one did not fit the limit."""
        self._closing: str | None = None
        """Why the link ends as soon as what is queued is out."""
        self._is_broken = False
        """Whether the peer broke the protocol: nothing after that has a meaning."""
        self._is_polite = False
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._fault: Exception | None = None
        """Ours, met in handling a frame."""
        self._sent_at = self._loop.time()
        self._pinged_at: float | None = None
        """When the ping that is not answered yet went out, on a clock finer than uvloop's milliseconds."""
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
            # Once for each kind of frame: most are repeated every second.
            level = logging.DEBUG if type(frame) in self._too_long else logging.ERROR
            self._too_long.add(type(frame))
            logger.log(
                level,
                "a %s for %s cannot be sent, which keeps this device from its part in the run: %s",
                type(frame).__name__,
                self.peer.name,
                error,
            )
            return False
        if self._queued_bytes + len(data) > self._settings.max_queue_bytes:
            self.cut(f"it does not read: {self._queued_bytes} bytes wait to be sent to it")
            return False
        self._enqueue(data)
        return True

    def close(self, reason: str) -> None:
        """Send what is queued, then BYE with *reason*, then close."""
        if self.send(Bye(one_line(reason, MAX_REASON_CHARACTERS))):
            self._closing = reason

    def cut(self, reason: str) -> None:
        """End the link at once; what is queued is lost."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def run(self) -> str:
        """Read and write until the link ends; return why, in half a sentence. Call `end` after that.

        What the handler of a frame raises ends the link too, and is raised here.
        """
        tasks = [asyncio.create_task(self._keep_alive()), asyncio.create_task(self._watch())]
        try:
            self.stream.hand_over(self)
            reason = await self._ended
            if self._fault is not None:
                raise self._fault
            return reason
        except BaseException:
            self.stream.abort()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def end(self) -> None:
        """Close the connection: after last words, where it was not cut."""
        if self._is_polite:
            await self.stream.finish()
        else:
            self.stream.abort()

    # --- what the peer sends --------------------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Handle the frames in *data*."""
        if self._is_over():
            return
        try:
            if not self._admits(len(data)):
                return
            for frame in self.stream.frames(data):
                if self._admits(frame):
                    self._handle(frame)
                if self._is_over():
                    return
        except VersionError as error:
            self._refuse_version(error)
        except PeerError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fault = error
            self.cut("a fault in this node ended the link")

    def lost(self, error: Exception | None) -> None:
        """End the link with its connection."""
        if self._ended.done():
            return
        if self._is_broken and self._closing is not None:
            self._end(self._closing)  # that cannot be told any more, but stays the reason
        elif error is not None:
            self._end(f"the connection broke ({getattr(error, 'strerror', None) or error})")
        else:
            try:
                self.stream.end()
            except PeerError as inside:
                self._refuse(str(inside))
            else:
                self._end("it closed the connection")

    def _admits(self, what: ControlFrame | int) -> bool:
        """Whether a frame, or so many bytes, are to be looked at; a peer that goes on loses the link."""
        verdict = self._gate.judge(what) if self._gate is not None else Verdict.TAKE
        if verdict is Verdict.CUT:
            kind = "bytes" if isinstance(what, int) else type(what).__name__.upper()
            self._refuse(f"it sent {kind} without end")
        return verdict is Verdict.TAKE

    def _is_over(self) -> bool:
        """Whether what still arrives is not looked at any more."""
        return self._is_broken or self._ended.done()

    def _handle(self, frame: ControlFrame) -> None:
        match frame:
            case Ping():
                self.send(Pong())
            case Pong():
                self._ponged()
            case Bye():
                self._end(f"it said goodbye: {one_line(frame.reason, MAX_REASON_CHARACTERS)}")
            case Refusal():
                self._end(f"it ended the link: {one_line(frame.reason, MAX_REASON_CHARACTERS)}")
            case Hello() | Welcome() | Ready():
                self._refuse(f"a second {type(frame).__name__.upper()} came")
            case _:
                self._on_frame(self, frame)

    def _ponged(self) -> None:
        if self._pinged_at is not None:
            self.rtt = time.perf_counter() - self._pinged_at
            self._pinged_at = None

    def _refuse(self, what: str) -> None:
        """Tell the peer that it broke the protocol, and end."""
        self._is_broken = True
        self._closing = f"it broke the protocol: {what}"
        self._enqueue(self.stream.encode(Refusal("protocol", one_line(what, MAX_REASON_CHARACTERS))))

    def _refuse_version(self, error: VersionError) -> None:
        """Tell the peer, and people here, that this device's software is too old for the peer's run."""
        self._is_broken = True
        self._closing = str(error)
        self._enqueue(self.stream.encode(Refusal("version", error.for_peer)))

    def _end(self, reason: str) -> None:
        """End the link in agreement: what was written still arrives."""
        if not self._ended.done():
            self._is_polite = True
            self._ended.set_result(reason)

    # --- what the peer is sent ------------------------------------------------------------------------------

    def may_write(self) -> None:
        """Go on after the connection was full."""
        self._plan_flush()

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._plan_flush()

    def _plan_flush(self) -> None:
        """Write what is queued when those who run now have had their say."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what is queued unless the connection is full, and end the link after its last words."""
        self._is_flush_due = False
        if self._ended.done() or self.stream.is_full():
            return
        if self._queue:
            data = b"".join(self._queue)
            self._queue.clear()
            self._queued_bytes = len(data)
            now = self._loop.time()
            if now >= self._ping_at and self._closing is None:
                data += self._ping(now)
            self._put(data, now)
            if self.stream.is_full():
                return
        self._queued_bytes = 0
        if self._closing is not None:
            self._end(self._closing)

    def _put(self, data: bytes, now: float) -> None:
        self._sent_at = now
        self.stream.put(data)

    def _ping(self, now: float) -> bytes:
        """Return a ping, of which the time is taken if no earlier one is open."""
        self._ping_at = now + RTT_SECONDS
        if self._pinged_at is None:
            self._pinged_at = time.perf_counter()
        return self.stream.encode(Ping())

    async def _keep_alive(self) -> None:
        """Ping when nothing was sent for a while, as long as the peer reads."""
        while True:
            now = self._loop.time()
            rest = self._sent_at + self._settings.ping_seconds - now
            if rest <= 0:
                rest = self._settings.ping_seconds
                if not self.stream.is_full():
                    self._put(self._ping(now), now)
            await asyncio.sleep(rest)

    async def _watch(self) -> None:
        """Cut the link when nothing has been heard for too long."""
        silence = self._settings.silence_seconds
        while True:
            heard_at = self.stream.heard_at
            await asyncio.sleep(max(0.0, heard_at + silence - self._loop.time()))
            if self.stream.heard_at != heard_at:
                continue
            await asyncio.sleep(silence * SECOND_LOOK)
            if self.stream.heard_at == heard_at:
                self.cut(f"nothing was heard from it for {silence:g} s")
                return
