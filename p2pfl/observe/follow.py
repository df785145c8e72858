"""Following a node for as long as somebody watches: connect, and connect again.

After a lost connection the node goes on behind the last event that was seen, or tells everything anew;
nothing is missed and nothing told twice. Where the node is this user's, each attempt reads anew how to reach
it: a node that was restarted has another port and another token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from p2pfl.errors import NetworkError, P2pflError, UserError
from p2pfl.events import Published, RoundRow
from p2pfl.observe.client import Observer
from p2pfl.observe.target import Target
from p2pfl.wire.observing import Answer, CaughtUp, Greeting, Happened, History, What

REST_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between attempts; the last one for ever."""

Item = Published | RoundRow


@dataclass(frozen=True)
class Connected:
    """The connection stands."""

    greeting: Greeting
    is_current: bool = False
    """Whether all that lies behind was told."""


@dataclass(frozen=True)
class Retrying:
    """There is no connection; the next attempt is due."""

    number: int
    at: float
    """When, by the clock the follower was given."""
    reason: str


@dataclass(frozen=True)
class Over:
    """Nothing more will come."""

    reason: str


Connection = Connected | Retrying | Over


class Follower:
    """Follows one node."""

    def __init__(self, find: Callable[[], Target], clock: Callable[[], float]) -> None:
        """Follow the node that *find* finds; it is asked anew before each attempt."""
        self._find = find
        self._clock = clock
        self._observer: Observer | None = None
        self._hurry = asyncio.Event()
        self._stream = ""
        self._seq = 0
        self._failures = 0
        """Attempts that failed since the last frame."""

    async def run(
        self,
        deliver: Callable[[Item], None],
        tell: Callable[[Connection], None],
        anew: Callable[[], None],
        *,
        ends_with_node: bool = False,
    ) -> None:
        """Give what the node tells to *deliver*, until cancelled.

        *tell* hears how the connection is, *anew* that everything so far is void. With *ends_with_node* a
        node that ends is not waited for.
        """
        reason = ""
        while True:
            try:
                await self._follow(deliver, tell, anew)
            except P2pflError as error:
                if ends_with_node and self._stream and isinstance(error, UserError):
                    tell(Over(f"the node ended: {reason}"))
                    return
                reason = str(error)
            self._failures += 1
            rest = REST_SECONDS[min(self._failures, len(REST_SECONDS)) - 1]
            tell(Retrying(self._failures, self._clock() + rest, reason))
            self._hurry.clear()
            try:
                async with asyncio.timeout(rest):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _follow(
        self,
        deliver: Callable[[Item], None],
        tell: Callable[[Connection], None],
        anew: Callable[[], None],
    ) -> None:
        """Follow until the connection breaks.

        Raises:
            P2pflError: it broke, or was never made; the message says why.
        """
        target = await asyncio.to_thread(self._find)
        observer = await Observer.connect(target, stream=self._stream, after=self._seq)
        try:
            if not observer.greeting.resumed:
                anew()
                self._seq = 0
            self._stream = observer.greeting.stream
            self._observer = observer
            tell(Connected(observer.greeting))
            async for frame in observer.frames():
                self._failures = 0
                match frame:
                    case History():
                        for row in frame.rounds:
                            deliver(row)
                    case Happened():
                        for published in frame.events:
                            self._seq = max(self._seq, published.seq)
                            deliver(published)
                    case CaughtUp():
                        tell(Connected(observer.greeting, is_current=True))
        finally:
            self._observer = None
            await observer.close()

    def retry_now(self) -> None:
        """Do not wait for the next attempt."""
        self._hurry.set()

    async def order(self, what: What) -> Answer:
        """Give the node a command.

        Raises:
            NetworkError: there is no connection, or it broke before the answer.
        """
        if self._observer is None:
            raise NetworkError("there is no connection to the node now")
        return await self._observer.order(what)
