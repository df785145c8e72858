"""A link: the one control connection between two nodes.

It carries frames in both directions until one side sends BYE, violates the protocol, or is silent for too
long. A half-open TCP connection reports nothing, so silence has its own deadline, and each side pings when it
has sent nothing else for a while. The send queue is bounded: a peer that does not read loses its link and
cannot fill this node's memory.

A link has no task for its frames. It handles them in the callback that receives them, and writes what was
queued in one turn of the event loop at the end of that turn, in one write.
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
from p2pfl.net.links.rate_limits import LinkRateLimiter, RateDecision
from p2pfl.net.transport.stream import FrameStream
from p2pfl.text import one_line
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import (
    Bye,
    Call,
    CallFailed,
    Hello,
    Peers,
    Ping,
    Pong,
    Ready,
    Refusal,
    RenewalFrame,
    RevocationList,
    Statements,
    Welcome,
)

logger = logging.getLogger(__name__)

SILENCE_GRACE = 0.2
"""Share of the silence deadline that a silent peer gets in addition: this node may itself have been busy or
asleep, with bytes of the peer unread in the kernel."""

RTT_SECONDS = 2.0
"""Between pings on a link that is never idle, which measure its round-trip time."""

DeliveredFrame = Peers | Call | CallFailed | RenewalFrame | Statements | RevocationList | Message
"""Frames that the link does not handle itself."""


class Link:
    """An established link. Call `run` once: it returns when the link has ended."""

    def __init__(
        self,
        stream: FrameStream,
        peer: LinkedPeer,
        order: int,
        settings: NetSettings,
        on_frame: Callable[[Link, DeliveredFrame], None],
        limiter: LinkRateLimiter | None = None,
    ) -> None:
        """Run nothing yet; *limiter* limits what the peer may send: without it there is no limit."""
        self.stream = stream
        self.peer = peer
        self.order = order
        self.is_version_refused = False
        """Whether one side ended the link because it does not know what the other's run needs."""
        self._settings = settings
        self._on_frame = on_frame
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        """In the queue, and in the full buffer of the transport."""
        self._is_flush_due = False
        self._too_long: set[type[ControlFrame]] = set()
        """Kinds of frames of which one exceeded the size limit."""
        self._closing: str | None = None
        """Why the link ends once the queue is written; None while it does not."""
        self._is_broken = False
        """Whether the peer violated the protocol: later frames are ignored."""
        self._is_polite = False
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._fault: Exception | None = None
        """An exception raised while a frame was handled."""
        self._sent_at = self._loop.time()
        self._pinged_at: float | None = None
        """When the unanswered ping was sent, on a clock finer than uvloop's milliseconds."""
        self._ping_at = 0.0
        """When the next ping is due on a link that is not idle."""
        self.rtt: float | None = None
        """Round-trip time of the last answered ping, in seconds; None before the first."""

    def send(self, frame: ControlFrame) -> bool:
        """Queue *frame*; return False if the link is ending or the frame is too long."""
        if self._closing is not None or self._ended.done():
            return False
        try:
            data = self.stream.encode(frame)
        except FrameError as error:
            # Logged as an error once for each kind of frame: most frames are repeated every second.
            level = logging.DEBUG if type(frame) in self._too_long else logging.ERROR
            self._too_long.add(type(frame))
            logger.log(
                level,
                "a %s for %s cannot be sent, so this device cannot take part in the run: %s",
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
        """Send the queued frames, then BYE with *reason*, then close."""
        if self.send(Bye(one_line(reason, MAX_REASON_CHARACTERS))):
            self._closing = reason

    def cut(self, reason: str) -> None:
        """End the link at once; queued frames are lost."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def run(self) -> str:
        """Read and write until the link ends; return the reason, in half a sentence. Then call `end`.

        An exception raised by the handler of a frame also ends the link, and is raised here.
        """
        tasks = [asyncio.create_task(self._keep_alive()), asyncio.create_task(self._watch())]
        try:
            self.stream.set_handler(self)
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
        """Close the connection: after its last frame has arrived, unless the link was cut."""
        if self._is_polite:
            await self.stream.finish()
        else:
            self.stream.abort()

    # --- receiving ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Handle the frames in *data*."""
        if self._is_over():
            return
        try:
            if not self._is_within_limits(len(data)):
                return
            for frame in self.stream.frames(data):
                if self._is_within_limits(frame):
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

    def connection_lost(self, error: Exception | None) -> None:
        """End the link: its connection has ended."""
        if self._ended.done():
            return
        if self._is_broken and self._closing is not None:
            self._end(self._closing)  # it cannot be sent any more, but remains the reason
        elif error is not None:
            self._end(f"the connection broke ({getattr(error, 'strerror', None) or error})")
        else:
            try:
                self.stream.end()
            except PeerError as inside:
                self._refuse(str(inside))
            else:
                self._end("it closed the connection")

    def _is_within_limits(self, what: ControlFrame | int) -> bool:
        """Whether a frame, or a number of bytes, is within the limits; far beyond them, end the link."""
        decision = self._limiter.check(what) if self._limiter is not None else RateDecision.ACCEPT
        if decision is RateDecision.DISCONNECT:
            kind = "bytes" if isinstance(what, int) else type(what).__name__.upper()
            self._refuse(f"it sent too many {kind}")
        return decision is RateDecision.ACCEPT

    def _is_over(self) -> bool:
        """Whether frames that still arrive are ignored."""
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
                self.is_version_refused = frame.kind == "version"
                self._end(f"it ended the link: {one_line(frame.reason, MAX_REASON_CHARACTERS)}")
            case Hello() | Welcome() | Ready():
                self._refuse(f"a second {type(frame).__name__.upper()} came")
            case _:  # mypy narrows the rest to DeliveredFrame
                self._on_frame(self, frame)

    def _ponged(self) -> None:
        if self._pinged_at is not None:
            self.rtt = time.perf_counter() - self._pinged_at
            self._pinged_at = None

    def _refuse(self, what: str) -> None:
        """Send a REFUSAL because the peer violated the protocol, and end the link."""
        self._is_broken = True
        self._closing = f"it broke the protocol: {what}"
        self._enqueue(self.stream.encode(Refusal("protocol", one_line(what, MAX_REASON_CHARACTERS))))

    def _refuse_version(self, error: VersionError) -> None:
        """Tell the peer, and people here, that this device's software is too old for the peer's run."""
        self._is_broken = self.is_version_refused = True
        self._closing = str(error)
        self._enqueue(self.stream.encode(Refusal("version", error.for_peer)))

    def _end(self, reason: str) -> None:
        """End the link gracefully: written frames still arrive."""
        if not self._ended.done():
            self._is_polite = True
            self._ended.set_result(reason)

    # --- sending --------------------------------------------------------------------------------------------

    def writing_resumed(self) -> None:
        """Continue writing."""
        self._plan_flush()

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._plan_flush()

    def _plan_flush(self) -> None:
        """Write the queue at the end of this turn of the event loop."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write the queue unless the transport is full; end the link after its last frame."""
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
        """Return a ping; measure its round trip if no earlier ping is unanswered."""
        self._ping_at = now + RTT_SECONDS
        if self._pinged_at is None:
            self._pinged_at = time.perf_counter()
        return self.stream.encode(Ping())

    async def _keep_alive(self) -> None:
        """Ping when nothing was sent for a while, unless the transport is full."""
        while True:
            now = self._loop.time()
            rest = self._sent_at + self._settings.ping_seconds - now
            if rest <= 0:
                rest = self._settings.ping_seconds
                if not self.stream.is_full():
                    self._put(self._ping(now), now)
            await asyncio.sleep(rest)

    async def _watch(self) -> None:
        """Cut the link when nothing was received for too long."""
        silence = self._settings.silence_seconds
        while True:
            heard_at = self.stream.heard_at
            await asyncio.sleep(max(0.0, heard_at + silence - self._loop.time()))
            if self.stream.heard_at != heard_at:
                continue
            await asyncio.sleep(silence * SILENCE_GRACE)
            if self.stream.heard_at == heard_at:
                self.cut(f"nothing was heard from it for {silence:g} s")
                return
