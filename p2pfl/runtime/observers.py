"""Those who watch this node: what they are told, and that none of them slows it down.

An event is encoded once for all of them and put into each one's queue; one task for each writes it out. Who
reads too slowly is dropped, not waited for, and may come back: with the number of the last event it saw it
goes on behind that, as far as it is still here, and is told what matters anew otherwise (`keeper`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Literal, NamedTuple

import msgspec

from p2pfl import __version__
from p2pfl.config import NetSettings
from p2pfl.errors import DataDirectoryError, HandshakeRefused, PeerError
from p2pfl.events import Published, RoundRow
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.acceptor import Serve
from p2pfl.net.explain import explain
from p2pfl.net.stream import FrameStream
from p2pfl.net.tasks import Tasks
from p2pfl.runtime.compaction import CompactedEvents
from p2pfl.runtime.viewer import Viewer
from p2pfl.store.directory import DataDirectory
from p2pfl.wire.codec import bounded
from p2pfl.wire.frames import encode_frame
from p2pfl.wire.observing import (
    OBSERVING_VERSION,
    Answer,
    Denial,
    Greeting,
    Happened,
    History,
    HistoryEnd,
    NodeFrame,
    ObserverHeartbeat,
    Order,
    WatchRequest,
    What,
    batches,
    decode_observer,
    encode,
)

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 1.0
"""For what observers are still told when the node ends."""

TOO_SLOW = "this observer reads too slowly: too much waits to be sent to it; it may connect again"

RESUMABLE = 4000
"""Events kept for observers who lost their connection for a while: minutes of a busy run."""

RESUMABLE_BYTES = 2 * 2**20
"""Of these events, as they are sent: some are long, and peers may cause any number of them."""

FEDERATION_WIDE: tuple[What, ...] = ("pause", "resume", "stop", "stop-now")
"""Commands that any operator of the federation may give at any node."""

FAULT = "a fault in this node ended it"
"""Why a connection is over whose task ended without saying why."""

MAX_REASON_CHARACTERS = 400
"""Of a refusal: it is a sentence or two, and may quote what the observer said."""

HISTORY_ROUNDS = 1000
"""Committed rounds that a newcomer is told of: more than a screen is wide. `p2pfl history` has them all."""

_encode = msgspec.msgpack.Encoder().encode

Role = Literal["local", "operator", "observer"]


def last_rounds(directory: DataDirectory, run: str) -> list[RoundRow]:
    """Return the last committed rounds of *run*, in order.

    It takes half a second where members are many; the journal of *directory* is opened once more for it, so
    that no vote waits behind it to be saved.

    Raises:
        DataDirectoryError: the journal cannot be read.
    """
    with directory.read_journal() as journal:
        return list(journal.rounds(run, last=HISTORY_ROUNDS))


class Admitted(NamedTuple):
    """An observer, let in."""

    who: str
    role: Role
    may: tuple[What, ...]
    node: str
    """Of its certificate."""


class Observers:
    """The observers of one node. It is a sink of the publisher, and hears their connections."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        token: str,
        stream: str,
        history: Callable[[str], Awaitable[list[RoundRow]]],
        command: Callable[[What, str], Awaitable[Answer]],
        *,
        can_start: bool,
    ) -> None:
        """Serve nobody yet.

        *token* proves that an observer can read this node's data directory, *stream* names this process.
        *history* returns the committed rounds of a run, *command* carries a command out for somebody.
        *can_start* says whether this node has a start to be given (`--wait`).
        """
        self._credentials = credentials
        self._settings = settings
        self._token = token
        self._stream = stream
        self._history = history
        self._command = command
        self._can_start = can_start
        self._compacted = CompactedEvents()
        self._recent: deque[tuple[Published, int]] = deque()
        """With the bytes each takes on the wire."""
        self._recent_bytes = 0
        self._batch: list[Published] = []
        self._connected: dict[Viewer, Admitted] = {}
        self._viewers: set[Viewer] = set()
        """Those of the connected who follow what happens."""
        self._is_closed = False
        self._seq = 0
        self._beat = self._frame(ObserverHeartbeat())
        self._too_slow = self._frame(Denial(TOO_SLOW))

    @property
    def count(self) -> int:
        """How many follow what happens."""
        return len(self._viewers)

    # --- events ---------------------------------------------------------------------------------------------

    def write(self, published: Published) -> None:
        """Take the next event; those of one turn of the event loop reach observers in one frame."""
        self._seq = published.seq
        self._compacted.take(published)
        self._remember(published)
        if self._viewers:
            if not self._batch:
                asyncio.get_running_loop().call_soon(self._flush)
            self._batch.append(published)

    def _remember(self, published: Published) -> None:
        """Keep an event for those who come back, and the oldest ones only as far as they take little room."""
        self._recent.append((published, len(_encode(published))))
        self._recent_bytes += self._recent[-1][1]
        while len(self._recent) > RESUMABLE or self._recent_bytes > RESUMABLE_BYTES:
            self._recent_bytes -= self._recent.popleft()[1]

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            frames = [self._frame(Happened(part)) for part in batches(batch)]
            for viewer in list(self._viewers):
                for frame in frames:
                    viewer.push(frame)

    def _frame(self, frame: NodeFrame) -> bytes:
        return encode_frame(encode(frame), self._settings.max_frame_bytes)

    async def close(self, reason: str) -> None:
        """Tell everybody what is left, answers to commands included, and that this was all."""
        self._is_closed = True
        self._flush()
        denial = self._frame(Denial(bounded(f"the node ends: {reason}", MAX_REASON_CHARACTERS)))
        connected = list(self._connected)
        for viewer in connected:
            viewer.finish(denial)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                for viewer in connected:
                    await viewer.closed.wait()

    # --- connections ----------------------------------------------------------------------------------------

    async def hear(self, stream: FrameStream, identity: PeerIdentity, _address: str) -> Serve | None:
        """Read an observer's first frame; return what serves it.

        Raises:
            HandshakeRefused: it is not let in, and has been told why; or its connection broke.
        """
        try:
            try:
                watch = await self._first_frame(stream)
                if watch is None:
                    await stream.finish()
                    return None
                admitted = self._admit(identity, watch)
            except (PeerError, TimeoutError) as error:
                reason = str(error) or "it did not say in time what it wants"
                await stream.write(self._frame(Denial(bounded(reason, MAX_REASON_CHARACTERS))))
                await stream.finish()
                raise HandshakeRefused(f"This device refused an observer, {identity}: {reason}.") from error
        except OSError as error:
            stream.abort()
            raise HandshakeRefused(explain(error, self._credentials, dialing=False)) from error
        except BaseException:
            stream.abort()
            raise
        return partial(self._serve, stream, watch, admitted)

    async def _first_frame(self, stream: FrameStream) -> WatchRequest | None:
        """Return an observer's first frame; None if it closed instead.

        Raises:
            PeerError: it was another one, or none.
            TimeoutError: it did not come in time.
        """
        async with asyncio.timeout(self._settings.handshake_seconds):
            body = await stream.next_body()
        if body is None:
            return None
        frame = decode_observer(body)
        if not isinstance(frame, WatchRequest):
            raise PeerError("an observer's first frame must be WATCH")
        return frame

    def _admit(self, identity: PeerIdentity, watch: WatchRequest) -> Admitted:
        """Return what an observer may do.

        Raises:
            PeerError: it is not let in; the message is for the observer.
        """
        if watch.version != OBSERVING_VERSION:
            raise PeerError(
                f"this observer (p2pfl {watch.software}) and this node (p2pfl {__version__}) speak different "
                "versions: install the same p2pfl on both"
            )
        if self._is_closed:
            raise PeerError("this node ends")
        start: tuple[What, ...] = ("start",) if self._can_start else ()
        if identity.node_id == self._credentials.node_id:
            if not hmac.compare_digest(watch.token.encode(), self._token.encode()):
                raise PeerError(
                    "the local user of a node is known by its data directory, and that of this one was not "
                    "shown: give --data-dir, or use a certificate of role observer or operator"
                )
            may: tuple[What, ...] = (*start, *FEDERATION_WIDE, "save", "leave")
            return self._placed(Admitted("the local user", "local", may, identity.node_id))
        who = f"{bounded(identity.name, 64)} ({identity.role})"
        if identity.role == "operator":
            may = (*start, *FEDERATION_WIDE, "save")
            return self._placed(Admitted(who, "operator", may, identity.node_id))
        if identity.role == "observer":
            return self._placed(Admitted(who, "observer", (), identity.node_id))
        raise PeerError(
            f"the certificate of {identity.name} is a node's, and nodes do not watch each other: on the CA's "
            "machine make one for a person with `p2pfl certs issue NAME --role observer` (or operator)"
        )

    def _placed(self, admitted: Admitted) -> Admitted:
        """Return *admitted* if there is a place for it: nobody takes those of others.

        Raises:
            PeerError: there is none.
        """
        settings, others = self._settings, list(self._connected.values())
        own = sum(one.node == admitted.node for one in others)
        if own >= settings.max_observers_of_certificate:
            raise PeerError(f"{admitted.who} is connected {own} times, the most there may be: close one")
        if admitted.role == "local":
            return admitted
        count = sum(one.role != "local" for one in others)
        places = settings.max_observers - (settings.kept_for_operators if admitted.role == "observer" else 0)
        if count >= places:
            raise PeerError(f"{count} observers are connected, the most there may be of them: close one")
        return admitted

    async def _serve(self, stream: FrameStream, watch: WatchRequest, admitted: Admitted) -> None:
        viewer = Viewer(stream, self._settings.max_observer_bytes, beat=self._beat, too_slow=self._too_slow)
        tasks = Tasks()
        self._connected[viewer] = admitted
        logger.info("%s is connected as an observer", admitted.who)
        try:
            tasks.start(viewer.write()).add_done_callback(lambda _: viewer.end(FAULT))
            try:
                await self._begin(viewer, watch, admitted)
            except DataDirectoryError as error:
                viewer.finish(self._frame(Denial(bounded(str(error), MAX_REASON_CHARACTERS))))
            tasks.start(self._read(viewer, admitted)).add_done_callback(lambda _: viewer.end(FAULT))
            reason = await viewer.ended
            logger.info("the connection of %s as an observer ended: %s", admitted.who, reason)
        finally:
            self._connected.pop(viewer, None)
            self._viewers.discard(viewer)
            await tasks.close()
            await stream.finish()
            viewer.closed.set()

    async def _begin(self, viewer: Viewer, watch: WatchRequest, admitted: Admitted) -> None:
        """Greet an observer, tell it what lies behind, and let it follow."""
        oldest = self._recent[0][0].seq if self._recent else self._seq + 1
        resumed = watch.stream == self._stream and oldest - 1 <= watch.after <= self._seq
        credentials = self._credentials
        viewer.push(
            self._frame(
                Greeting(
                    OBSERVING_VERSION,
                    __version__,
                    credentials.name,
                    credentials.node_id,
                    credentials.federation,
                    admitted.who,
                    admitted.role,
                    admitted.may,
                    self._stream,
                    resumed,
                )
            )
        )
        if not watch.follow:
            return
        rows = [] if resumed or not self._compacted.run else await self._history(self._compacted.run)
        for rounds in batches(rows):
            viewer.push(self._frame(History(rounds)))
            await viewer.room()  # they may be many
        # From here on nothing is awaited: what happens meanwhile is neither missed nor told twice.
        self._flush()
        behind: Iterable[Published]
        if resumed:
            behind = (published for published, _ in self._recent if published.seq > watch.after)
        else:
            behind = self._compacted.kept()
        for happened in batches(behind):
            viewer.push(self._frame(Happened(happened)))
        viewer.push(self._frame(HistoryEnd(self._seq)))
        self._viewers.add(viewer)

    async def _read(self, viewer: Viewer, admitted: Admitted) -> None:
        """Take an observer's commands, one at a time, until it closes."""
        try:
            while (body := await viewer.stream.next_body()) is not None:
                frame = decode_observer(body)
                if isinstance(frame, Order):
                    viewer.push(self._frame(await self._obey(frame, admitted)))
            viewer.end("it closed the connection")
        except (PeerError, OSError) as error:
            viewer.end(str(error) or type(error).__name__)

    async def _obey(self, order: Order, admitted: Admitted) -> Answer:
        if order.what in admitted.may:
            answer = await self._command(order.what, admitted.who)
            return Answer(order.number, answer.refused, answer.text)
        if order.what == "start":
            reason = "this node does not hold the start: it was started without --wait"
        elif order.what == "leave":
            reason = "only the local user of a node can make it leave"
        else:
            reason = f"{admitted.who} may watch, not command: that takes a certificate of role operator"
        logger.info("%s commands %s: refused: %s", admitted.who, order.what, reason)
        return Answer(order.number, reason, "")
