"""`p2pfl.Node`: a node inside this program, in its event loop.

The node's worker, which trains, is a process of its own. Several nodes in one program share nothing: each has
its own certificate, data directory, port and worker. Signals, standard input, logging and the limit of open
files stay the program's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, get_args
from weakref import WeakSet

from p2pfl import events
from p2pfl.errors import UserError
from p2pfl.events import AnyEvent, LiveEvent, Published
from p2pfl.exit_codes import ExitCode
from p2pfl.library.history import RoundHistory, history
from p2pfl.runtime.configure import NodeOptions, configure
from p2pfl.runtime.leaving import Leaving
from p2pfl.runtime.start import start_node

MAX_PAST = 1000
"""Events that a new reader still gets, without those for live displays."""

MAX_BEHIND = 10_000
"""Events that a reader may be behind."""

LIVE = get_args(LiveEvent)


class EventReader:
    """Iterates over the events of a node, from its start on; it ends with the node."""

    def __init__(self, past: deque[AnyEvent], *, has_ended: bool) -> None:
        self._waiting: deque[AnyEvent | None] = deque(past)
        """None is the end."""
        self._news = asyncio.Event()
        self._is_behind = False
        if has_ended:
            self.add(None)

    def add(self, event: AnyEvent | None) -> None:
        """Add an event, or None at the end of the node."""
        if len(self._waiting) >= MAX_BEHIND and event is not None:
            self._is_behind = True
            self._waiting.popleft()
        self._waiting.append(event)
        self._news.set()

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self

    async def __anext__(self) -> AnyEvent:
        """Return the next event.

        Raises:
            UserError: the reader is too far behind, so that events are lost.
        """
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        if self._is_behind:
            raise UserError(
                f"The events of the node are read too slowly: more than {MAX_BEHIND} waited. Read them in a "
                "task of its own, and do long work elsewhere."
            )
        event = self._waiting[0]
        if event is None:  # it stays, for the next call
            raise StopAsyncIteration
        return self._waiting.popleft()  # type: ignore[return-value]  # not None, as seen above


class EmbeddedNode:
    """A node of a federation inside this program; `p2pfl.Node` is this class.

    ::

        async with p2pfl.Node(certs="certs/ada", peers=["ben.local:9000"], rounds=20) as node:
            async for event in node.events():
                if isinstance(event, p2pfl.events.Committed):
                    print(event.trained, event.contributors)
            code = await node.wait()

    It starts when the block is entered. Leaving the block leaves the federation politely, within
    `leave_within` seconds. A node whose run is complete ends by itself, unless it was told to `stay`.
    """

    def __init__(self, **options: Unpack[NodeOptions]) -> None:
        """Check the *options*, which are those of `p2pfl node` with underscores.

        Raises:
            UserError: an option is of no use or out of its range, or a file, certificate or package is
            missing.
        """
        self._config = configure(options)
        self._past: deque[AnyEvent] = deque(maxlen=MAX_PAST)
        self._readers: WeakSet[EventReader] = WeakSet()
        """Readers that are not used any more are forgotten."""
        self._started: events.Started | None = None
        self._leave: Leaving | None = None
        self._running: asyncio.Task[ExitCode] | None = None

    def __repr__(self) -> str:
        if self._started is None:
            return f"<node {self.name}, not started>"
        return f"<node {self.name}, {'running' if self.is_running else 'ended'}>"

    @property
    def name(self) -> str:
        """The node's name, from its certificate."""
        return self._config.credentials.name

    @property
    def data_dir(self) -> Path:
        """The folder of the node's models, its journal and its saved state."""
        return self._config.data_dir

    @property
    def addresses(self) -> list[str]:
        """The addresses that the node listens on, for the `peers` of other nodes.

        Raises:
            UserError: it has not started.
        """
        if self._started is None:
            raise UserError(f"The node {self.name} has not started: enter `async with` first.")
        return self._started.address.split(", ")

    @property
    def is_running(self) -> bool:
        """Whether the node has started and not ended."""
        return self._running is not None and not self._running.done()

    async def __aenter__(self) -> Self:
        """Start the node; return when other nodes can reach it.

        Raises:
            UserError: the data directory, the port or an address does not allow it.
        """
        if self._running is not None:
            raise UserError(f"The node {self.name} was started before: make another p2pfl.Node.")
        can_be_ended = asyncio.Event()

        def on_start(leave: Leaving) -> None:
            self._leave = leave
            can_be_ended.set()

        self._running = asyncio.create_task(
            start_node(self._config, (self._take,), time.time(), on_start), name=f"node {self.name}"
        )
        self._running.add_done_callback(self._finish)
        starting = asyncio.create_task(can_be_ended.wait())
        try:
            await asyncio.wait((self._running, starting), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            starting.cancel()
        if self._running.done():
            self._running.result()  # raises what prevented the start
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the federation politely if the node still runs, and wait for its end."""
        await self._end()

    def events(self) -> EventReader:
        """Return the events of this node, from its start on and as they happen: see `p2pfl.events`.

        There may be several readers; each gets all events. The iteration ends with the node.
        """
        reader = EventReader(self._past, has_ended=self._running is not None and self._running.done())
        self._readers.add(reader)
        return reader

    async def wait(self) -> ExitCode:
        """Wait until the node ends, normally with its run; return why it ended.

        Raises:
            UserError: it has not started, or what it needs is gone, such as its disk.
        """
        if self._running is None:
            raise UserError(f"The node {self.name} has not started: enter `async with` first.")
        return await asyncio.shield(self._running)

    def history(self) -> RoundHistory:
        """Return the committed training rounds of the node's newest run so far.

        Raises:
            UserError: it is in no run yet.
        """
        return history(self.data_dir)

    def _take(self, published: Published) -> None:
        event = published.event
        if isinstance(event, events.Started):
            self._started = event
        if not isinstance(event, LIVE):
            self._past.append(event)
        for reader in self._readers:
            reader.add(event)

    def _finish(self, running: asyncio.Task[ExitCode]) -> None:
        for reader in self._readers:
            reader.add(None)
        if not running.cancelled():
            running.exception()  # marks it as seen: `wait` and the start raise it

    async def _end(self) -> None:
        """Leave and wait for the end; a node that has not started yet is stopped at once."""
        running = self._running
        if running is None:
            return
        if not running.done():
            if self._leave is None:
                running.cancel()
            else:
                self._leave.ask_within("the program leaves")
        await asyncio.wait((running,))


Node = EmbeddedNode
"""Its name in the library. `p2pfl.core.node.Node` is the protocol, which has neither disk nor clock."""
