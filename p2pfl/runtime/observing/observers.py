"""Serves the observers of this node: admits them, sends them events, and executes their commands.

An event is encoded once and put into the queue of each observer, so that no observer slows the node down. An
observer that reads too slowly is disconnected and may reconnect: it resumes after the last event it received
if if the later ones are still kept, and otherwise receives the history and the compacted events
(`compaction`).
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
from p2pfl.net.transport.acceptor import ConnectionServer
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.stream import FrameStream
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.runtime.membership import Membership
from p2pfl.runtime.observing.compaction import CompactedEvents
from p2pfl.runtime.observing.observer_connection import ObserverConnection
from p2pfl.store.directory import DataDirectory
from p2pfl.text import one_line
from p2pfl.wire.frames import encode_frame
from p2pfl.wire.observing import (
    OBSERVING_VERSION,
    CommandName,
    CommandResult,
    EventBatch,
    HistoryBatch,
    HistoryEnd,
    MembershipRequest,
    NodeFrame,
    ObserverCommand,
    ObserverHeartbeat,
    ObserverRefusal,
    ObserverWelcome,
    StatementOrder,
    WatchRequest,
    batches,
    decode_observer,
    encode,
)

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 1.0
"""Time to send observers their last frames when the node ends."""

TOO_SLOW = "this observer reads too slowly: too much is queued for it; it may connect again"

RESUMABLE = 4000
"""Events kept for observers that reconnect: minutes of a busy run."""

RESUMABLE_BYTES = 2 * 2**20
"""Encoded size of these events: some are long, and peers can cause any number of them."""

FEDERATION_WIDE: tuple[CommandName, ...] = ("pause", "resume", "stop", "stop-now")
"""Commands that any operator of the federation may give at any node."""

FAULT = "a fault in this node ended it"
"""Reason for a connection whose task ended without giving one."""

MAX_REASON_CHARACTERS = 400
"""Maximum length of a refusal: it may quote the observer."""

CLASS_ROUNDS = 100
"""The last committed rounds that come with the counts of each class: of 100 classes those take 5 KB."""

HISTORY_ROUNDS = 1000
"""Maximum number of committed rounds sent to a new observer; a screen shows fewer. `p2pfl history` has
all."""

_encode = msgspec.msgpack.Encoder().encode

Role = Literal["local", "operator", "observer"]


def last_rounds(directory: DataDirectory, run: str) -> list[RoundRow]:
    """Return the last committed rounds of *run*, in order.

    With many members it takes half a second. It opens the journal of *directory* a second time, so that no
    vote waits for it.

    Raises:
        DataDirectoryError: the journal cannot be read.
    """
    with directory.read_journal() as journal:
        rows = list(journal.rounds(run, last=HISTORY_ROUNDS, counts_classes=True))
    return [msgspec.structs.replace(row, classes=()) for row in rows[:-CLASS_ROUNDS]] + rows[-CLASS_ROUNDS:]


class AdmittedObserver(NamedTuple):
    """An admitted observer and its rights."""

    who: str
    role: Role
    may: tuple[CommandName, ...]
    identity: PeerIdentity
    """The holder of its certificate."""


class Observers:
    """The observers of one node: a sink of the publisher, and the handler of their connections."""

    def __init__(
        self,
        credentials: Credentials,
        settings: NetSettings,
        token: str,
        stream: str,
        history: Callable[[str], Awaitable[list[RoundRow]]],
        command: Callable[[CommandName, str], Awaitable[CommandResult]],
        *,
        membership: Membership | None = None,
    ) -> None:
        """Serve nobody yet.

        *token* proves that an observer can read this node's data directory; *stream* identifies this process.
        *history* returns the committed rounds of a run; *command* executes a command for a named observer.
        *membership* says who is kept out of the federation, observers included; without it nobody is.
        """
        self._credentials = credentials
        self._settings = settings
        self._token = token
        self._stream = stream
        self._history = history
        self._command = command
        self._membership = membership
        self._compacted = CompactedEvents()
        self._recent: deque[tuple[Published, int]] = deque()
        """The last events, with the encoded size of each."""
        self._recent_bytes = 0
        self._batch: list[Published] = []
        self._connected: dict[ObserverConnection, AdmittedObserver] = {}
        self._followers: set[ObserverConnection] = set()
        """The connected observers that follow events."""
        self._is_closed = False
        self._seq = 0
        self._heartbeat = self._frame(ObserverHeartbeat())
        self._too_slow = self._frame(ObserverRefusal(TOO_SLOW))

    @property
    def count(self) -> int:
        """Number of observers that follow events."""
        return len(self._followers)

    # --- events ---------------------------------------------------------------------------------------------

    def write(self, published: Published) -> None:
        """Take the next event; events of one turn of the event loop are sent in one frame."""
        self._seq = published.seq
        self._compacted.take(published)
        self._remember(published)
        if self._followers:
            if not self._batch:
                asyncio.get_running_loop().call_soon(self._flush)
            self._batch.append(published)

    def _remember(self, published: Published) -> None:
        """Keep an event for observers that reconnect, and drop the oldest beyond the limits."""
        self._recent.append((published, len(_encode(published))))
        self._recent_bytes += self._recent[-1][1]
        while len(self._recent) > RESUMABLE or self._recent_bytes > RESUMABLE_BYTES:
            self._recent_bytes -= self._recent.popleft()[1]

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            frames = [self._frame(EventBatch(part)) for part in batches(batch)]
            for connection in list(self._followers):
                for frame in frames:
                    connection.push(frame)

    def _frame(self, frame: NodeFrame) -> bytes:
        return encode_frame(encode(frame), self._settings.max_frame_bytes)

    async def close(self, reason: str) -> None:
        """Send all observers their queues, answers included, and the reason why this node ends."""
        self._is_closed = True
        self._flush()
        denial = self._frame(ObserverRefusal(one_line(f"the node ends: {reason}", MAX_REASON_CHARACTERS)))
        connected = list(self._connected)
        for connection in connected:
            connection.finish(denial)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                for connection in connected:
                    await connection.closed.wait()

    # --- connections ----------------------------------------------------------------------------------------

    async def hear(
        self, stream: FrameStream, identity: PeerIdentity, _address: str
    ) -> ConnectionServer | None:
        """Read an observer's first frame; return the function that serves it.

        Raises:
            HandshakeRefused: it is not admitted, and has been sent the reason; or its connection broke.
        """
        try:
            try:
                watch = await self._first_frame(stream)
                if watch is None:
                    await stream.finish()
                    return None
                admitted = self._admit(identity, watch)
            except (PeerError, TimeoutError) as error:
                reason = str(error) or "it sent no request in time"
                await stream.write(self._frame(ObserverRefusal(one_line(reason, MAX_REASON_CHARACTERS))))
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
        """Return an observer's first frame; None if it closed the connection instead.

        Raises:
            PeerError: the frame is invalid, or another one.
            TimeoutError: no frame came in time.
        """
        async with asyncio.timeout(self._settings.handshake_seconds):
            body = await stream.next_body()
        if body is None:
            return None
        frame = decode_observer(body)
        if not isinstance(frame, WatchRequest):
            raise PeerError("an observer's first frame must be WATCH")
        return frame

    def _admit(self, identity: PeerIdentity, watch: WatchRequest) -> AdmittedObserver:
        """Return the rights of an observer.

        Raises:
            PeerError: it is not admitted; the message is for the observer.
        """
        if watch.version != OBSERVING_VERSION:
            raise PeerError(
                f"this observer (p2pfl {watch.software}) and this node (p2pfl {__version__}) speak different "
                "protocol versions: install the same p2pfl on both"
            )
        if self._is_closed:
            raise PeerError("this node ends")
        if self._membership is not None and (reason := self._membership.reason(identity)):
            raise PeerError(f"{identity.name} {reason}")
        if identity.node_id == self._credentials.node_id:
            if not hmac.compare_digest(watch.token.encode(), self._token.encode()):
                raise PeerError(
                    "the local user of a node proves that it can read the node's data directory, and this "
                    "observer did not: give --data-dir, or use a certificate of role observer or operator"
                )
            may: tuple[CommandName, ...] = ("start", *FEDERATION_WIDE, "save", "leave")
            return self._with_place(AdmittedObserver("the local user", "local", may, identity))
        who = f"{one_line(identity.name, 64)} ({identity.role})"
        if identity.role == "operator":
            may = ("start", *FEDERATION_WIDE, "save")
            return self._with_place(AdmittedObserver(who, "operator", may, identity))
        if identity.role == "observer":
            return self._with_place(AdmittedObserver(who, "observer", (), identity))
        raise PeerError(
            f"the certificate of {identity.name} is a node's, and a node cannot be an observer: on the CA's "
            "device issue one for an observer with `p2pfl certs issue NAME --role observer` (or operator)"
        )

    def _with_place(self, admitted: AdmittedObserver) -> AdmittedObserver:
        """Return *admitted* if a connection is free for it; some are reserved for operators.

        Raises:
            PeerError: none is free.
        """
        settings, others = self._settings, list(self._connected.values())
        own = sum(one.identity.node_id == admitted.identity.node_id for one in others)
        if own >= settings.max_observers_of_certificate:
            raise PeerError(f"{admitted.who} is connected {own} times, the maximum: close one")
        if admitted.role == "local":
            return admitted
        count = sum(one.role != "local" for one in others)
        places = settings.max_observers - (settings.kept_for_operators if admitted.role == "observer" else 0)
        if count >= places:
            raise PeerError(f"{count} observers are connected, the maximum: close one")
        return admitted

    async def _serve(self, stream: FrameStream, watch: WatchRequest, admitted: AdmittedObserver) -> None:
        connection = ObserverConnection(
            stream, self._settings.max_observer_bytes, heartbeat=self._heartbeat, too_slow=self._too_slow
        )
        tasks = BackgroundTasks()
        self._connected[connection] = admitted
        logger.info("%s is connected as an observer", admitted.who)
        try:
            tasks.start(connection.write()).add_done_callback(lambda _: connection.end(FAULT))
            try:
                await self._begin(connection, watch, admitted)
            except DataDirectoryError as error:
                connection.finish(self._frame(ObserverRefusal(one_line(str(error), MAX_REASON_CHARACTERS))))
            tasks.start(self._read(connection, admitted)).add_done_callback(lambda _: connection.end(FAULT))
            reason = await connection.ended
            logger.info("the connection of %s as an observer ended: %s", admitted.who, reason)
        finally:
            self._connected.pop(connection, None)
            self._followers.discard(connection)
            await tasks.close()
            await stream.finish()
            connection.closed.set()

    async def _begin(
        self, connection: ObserverConnection, watch: WatchRequest, admitted: AdmittedObserver
    ) -> None:
        """Greet an observer, send it the history, and let it follow events."""
        oldest = self._recent[0][0].seq if self._recent else self._seq + 1
        resumed = watch.stream == self._stream and oldest - 1 <= watch.after <= self._seq
        credentials = self._credentials
        connection.push(
            self._frame(
                ObserverWelcome(
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
            connection.push(self._frame(HistoryBatch(rounds)))
            await connection.room()  # the history may be long
        # Nothing is awaited from here on, so that no event is missed or sent twice.
        self._flush()
        behind: Iterable[Published]
        if resumed:
            behind = (published for published, _ in self._recent if published.seq > watch.after)
        else:
            behind = self._compacted.kept()
        for happened in batches(behind):
            connection.push(self._frame(EventBatch(happened)))
        connection.push(self._frame(HistoryEnd(self._seq)))
        self._followers.add(connection)

    async def _read(self, connection: ObserverConnection, admitted: AdmittedObserver) -> None:
        """Execute an observer's commands, one at a time, until it closes the connection."""
        try:
            while (body := await connection.stream.next_body()) is not None:
                frame = decode_observer(body)
                match frame:
                    case ObserverCommand():
                        connection.push(self._frame(await self._execute(frame, admitted)))
                    case MembershipRequest() if self._membership is not None:
                        connection.push(self._frame(self._membership.report(frame.number)))
                    case StatementOrder():
                        connection.push(self._frame(self._hand_on(frame, admitted)))
                    case _:
                        pass
            connection.end("it closed the connection")
        except (PeerError, OSError) as error:
            connection.end(str(error) or type(error).__name__)

    def recheck(self) -> None:
        """End the connections of observers that are kept out by now."""
        for connection, admitted in list(self._connected.items()):
            if self._membership is not None and (reason := self._membership.reason(admitted.identity)):
                text = one_line(f"{admitted.identity.name} {reason}", MAX_REASON_CHARACTERS)
                connection.finish(self._frame(ObserverRefusal(text)))

    def _hand_on(self, order: StatementOrder, admitted: AdmittedObserver) -> CommandResult:
        """Hand a signed statement to the federation. It proves itself, so the local user may do that, too."""
        if self._membership is None or admitted.role == "observer":
            reason = f"{admitted.who} may watch, not command: commands need a certificate of role operator"
            return CommandResult(order.number, reason, "")
        return CommandResult(order.number, *self._membership.give(order.statement, admitted.who))

    async def _execute(self, order: ObserverCommand, admitted: AdmittedObserver) -> CommandResult:
        if order.what in admitted.may:
            answer = await self._command(order.what, admitted.who)
            return CommandResult(order.number, answer.refused, answer.text)
        if order.what == "leave":
            reason = "only the local user of a node can make it leave"
        else:
            reason = f"{admitted.who} may watch, not command: commands need a certificate of role operator"
        logger.info("%s commands %s: refused: %s", admitted.who, order.what, reason)
        return CommandResult(order.number, reason, "")
