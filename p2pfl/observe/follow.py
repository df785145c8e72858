"""Follows a node through lost connections and restarts: each thing it tells arrives once, or all of it anew.

A process of a node is a stream of numbered events. Who was told all that lay behind goes on, after a lost
connection, behind the last number it saw. Where that is not possible (the node was started again, or too much
happened meanwhile) everything is told anew, and whoever listens forgets what it knew first.
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
from p2pfl.observe.connection import Connected, Connection, Item, Over, Retrying
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
"""Before each attempt to connect again; the last one goes on for ever."""

Deliver = Callable[[Item], None]
Tell = Callable[[Connection], None]


class Connect(Protocol):
    """Opens a connection: `Observer.connect`."""

    def __call__(self, target: Target, *, stream: str, after: int) -> Awaitable[Observer]:
        """Connect to *target*, to go on behind number *after* of *stream*."""


class Follower:
    """Follows one node and gives it commands."""

    def __init__(
        self,
        target: Target,
        *,
        is_patient: bool = True,
        clock: Callable[[], float] = time.time,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        connect: Connect = Observer.connect,
    ) -> None:
        """Follow nobody yet; without *is_patient* the node has to answer the first time."""
        self._target = target
        self._is_patient = is_patient
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._connect = connect
        self._observer: Observer | None = None
        self._hurry = asyncio.Event()
        self._stream, self._after = "", 0
        self._has_delivered = False
        self._failures = 0
        self._ended: events.Ended | None = None

    @property
    def text(self) -> str:
        """Return what people call the node."""
        return self._target.text

    async def run(self, deliver: Deliver, tell: Tell, anew: Callable[[], None]) -> None:
        """Follow the node until it ends: its events and past rounds to *deliver*, changes of state to *tell*.

        *anew* is called before everything is told once more: what was delivered before is to be forgotten.

        Raises:
            NetworkError: it did not answer the first time, and this follower is not patient.
            UserError: the same, because of something at this device.
        """
        while True:
            try:
                await self._follow(deliver, tell, anew)
            except (NetworkError, UserError) as error:
                if self._ended is not None:
                    tell(Over(self._ended.reason))
                    return
                if not self._is_patient:
                    raise
                await self._wait(str(error), tell)

    async def _follow(self, deliver: Deliver, tell: Tell, anew: Callable[[], None]) -> None:
        """Connect, and pass on what is told until that ends, which raises."""
        if self._failures and self._target.data_dir is not None:
            # A restarted node has another token, and perhaps another port.
            self._target = find_target(data_dir=self._target.data_dir)
        observer = await self._connect(self._target, stream=self._stream, after=self._after)
        self._is_patient = True
        async with observer:
            if not observer.greeting.resumed:
                self._stream, self._after = "", 0
                if self._has_delivered:
                    anew()
            self._observer = observer
            try:
                tell(Connected(observer.greeting))
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
                    self._pass_on(item, deliver)
            case HistoryEnd(seq=seq):
                # Not before: who is cut off while it is told all has no number behind which it could go on.
                self._stream, self._after = greeting.stream, max(self._after, seq)
                self._failures = 0

    def _pass_on(self, item: Published, deliver: Deliver) -> None:
        if self._stream:
            if item.seq <= self._after:
                return
            self._after = item.seq
        if isinstance(item.event, events.Ended):
            self._ended = item.event
        deliver(item)

    async def _wait(self, reason: str, tell: Tell) -> None:
        """Wait until the next attempt is due, or wanted."""
        seconds = self._retry_seconds[min(self._failures, len(self._retry_seconds) - 1)]
        self._failures += 1
        self._hurry.clear()
        tell(Retrying(self._failures, self._clock() + seconds, reason))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    def retry_now(self) -> None:
        """Let the next attempt be made at once."""
        self._hurry.set()

    async def order(self, what: CommandName) -> CommandResult:
        """Give the node a command; `run` must be going on.

        Raises:
            NetworkError: it is not connected, or the connection ended before the answer.
        """
        if self._observer is None:
            raise NetworkError(f"there is no connection to {self.text} now: try again when it is back")
        return await self._observer.order(what)
