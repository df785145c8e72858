"""Follows a node through lost connections and restarts, and delivers each event exactly once.

Each process of a node is a stream of numbered events. After a lost connection the follower resumes after the
last number it received. If the node cannot resume (it was restarted, or too much happened meanwhile), it
sends its history again, and the receiver first resets its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from p2pfl import events
from p2pfl.errors import NetworkError, UserError
from p2pfl.events import Published
from p2pfl.observe.client import Observer
from p2pfl.observe.connection import Connected, Connection, Item, NodeEnded, Retrying
from p2pfl.observe.target import Target, find_target
from p2pfl.wire.observing import (
    CommandName,
    CommandResult,
    EventBatch,
    HistoryBatch,
    HistoryEnd,
    ObserverWelcome,
)

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Delays before the attempts to reconnect; the last one repeats."""

Deliver = Callable[[Item], None]
"""Takes an event or a committed round."""

OnConnection = Callable[[Connection], None]
"""Takes the new state of the connection."""


class Connect(Protocol):
    """Opens a connection: `Observer.connect`."""

    def __call__(self, target: Target, *, stream: str, after: int) -> Awaitable[Observer]:
        """Connect to *target* and resume after number *after* of *stream*."""


class Follower:
    """Follows one node and sends it commands."""

    def __init__(
        self,
        target: Target,
        *,
        is_patient: bool = True,
        clock: Callable[[], float] = time.time,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        connect: Connect = Observer.connect,
    ) -> None:
        """Do not connect yet; without *is_patient* the first attempt must succeed."""
        self._target = target
        self._is_patient = is_patient
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._connect = connect
        self._observer: Observer | None = None
        self._retry = asyncio.Event()
        self._stream, self._after = "", 0
        self._has_delivered = False
        self._failures = 0
        self._ended: events.Ended | None = None

    @property
    def text(self) -> str:
        """The node's address, for messages."""
        return self._target.text

    async def run(self, deliver: Deliver, on_connection: OnConnection, reset: Callable[[], None]) -> None:
        """Follow the node until it ends, and pass its events and past rounds to *deliver*.

        *reset* is called before the node sends its history again: the receiver then discards its state.

        Raises:
            NetworkError: the first attempt failed, and this follower is not patient.
            UserError: the same, for a reason on this device.
        """
        while True:
            try:
                await self._follow(deliver, on_connection, reset)
            except (NetworkError, UserError) as error:
                if self._ended is not None:
                    on_connection(NodeEnded(self._ended.reason))
                    return
                if not self._is_patient:
                    raise
                await self._wait(str(error), on_connection)

    async def _follow(self, deliver: Deliver, on_connection: OnConnection, reset: Callable[[], None]) -> None:
        """Connect and deliver frames until the connection ends, which raises."""
        if self._failures and self._target.data_dir is not None:
            # A restarted node has another token, and perhaps another port.
            self._target = find_target(data_dir=self._target.data_dir)
        observer = await self._connect(self._target, stream=self._stream, after=self._after)
        self._is_patient = True
        async with observer:
            if not observer.greeting.resumed:
                self._stream, self._after = "", 0
                if self._has_delivered:
                    reset()
            self._observer = observer
            try:
                on_connection(Connected(observer.greeting))
                async for frame in observer.frames():
                    self._take(frame, observer.greeting, deliver)
            finally:
                self._observer = None

    def _take(
        self, frame: HistoryBatch | EventBatch | HistoryEnd, greeting: ObserverWelcome, deliver: Deliver
    ) -> None:
        match frame:
            case HistoryBatch(rounds=rounds):
                self._has_delivered = True
                for row in rounds:
                    deliver(row)
            case EventBatch(events=happened):
                self._has_delivered = True
                for item in happened:
                    self._deliver_new(item, deliver)
            case HistoryEnd(seq=seq):
                # Only now: a connection that breaks within the history leaves no number to resume after.
                self._stream, self._after = greeting.stream, max(self._after, seq)
                self._failures = 0

    def _deliver_new(self, item: Published, deliver: Deliver) -> None:
        if self._stream:
            if item.seq <= self._after:
                return
            self._after = item.seq
        if isinstance(item.event, events.Ended):
            self._ended = item.event
        deliver(item)

    async def _wait(self, reason: str, on_connection: OnConnection) -> None:
        """Wait until the next attempt is due, or `retry_now` is called."""
        seconds = self._retry_seconds[min(self._failures, len(self._retry_seconds) - 1)]
        self._failures += 1
        self._retry.clear()
        on_connection(Retrying(self._failures, self._clock() + seconds, reason))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._retry.wait()

    def retry_now(self) -> None:
        """Make the next attempt now."""
        self._retry.set()

    async def order(self, what: CommandName) -> CommandResult:
        """Send the node a command and return its answer; `run` must be running.

        Raises:
            NetworkError: there is no connection, or it ended before the answer.
        """
        if self._observer is None:
            raise NetworkError(f"there is no connection to {self.text} now: try again when it is back")
        return await self._observer.order(what)
