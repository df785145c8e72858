"""An observer's connection to a node.

It imports neither torch nor numpy, so that an observer needs far less memory than a node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Self

from p2pfl import __version__
from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError, PeerError
from p2pfl.identity.keys import short
from p2pfl.net.transport import sockets
from p2pfl.net.transport.addresses import Address
from p2pfl.net.transport.explain import explain
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import OBSERVE_ALPN, authenticate, client_context, secure
from p2pfl.observe.target import Target
from p2pfl.statements import Statement
from p2pfl.text import one_line
from p2pfl.wire.frames import encode_frame
from p2pfl.wire.observing import (
    OBSERVING_VERSION,
    CommandName,
    CommandResult,
    EventBatch,
    HistoryBatch,
    HistoryEnd,
    MembershipReport,
    MembershipRequest,
    NodeFrame,
    ObserverCommand,
    ObserverFrame,
    ObserverHeartbeat,
    ObserverRefusal,
    ObserverWelcome,
    StatementOrder,
    WatchRequest,
    decode_node,
    encode,
)

SILENCE_SECONDS = 6.0
"""Time without a frame after which the connection counts as dead; a node sends one every second."""

MAX_FRAME_BYTES = NetSettings().max_frame_bytes


class Observer:
    """An open connection after the handshake. Use it with `async with`, or call `close`."""

    def __init__(self, stream: FrameStream, greeting: ObserverWelcome, address: Address) -> None:
        self._stream = stream
        self.greeting = greeting
        self.address = address
        """The address that answered."""
        self._orders = 0
        self._answers: dict[int, asyncio.Future[CommandResult | MembershipReport]] = {}
        self._failure: NetworkError | None = None

    @classmethod
    async def connect(
        cls,
        target: Target,
        *,
        follow: bool = True,
        stream: str = "",
        after: int = 0,
        settings: NetSettings | None = None,
    ) -> Self:
        """Connect to *target*.

        With *follow* the node sends its events: those after number *after* of *stream* if it still has them,
        otherwise its history.

        Raises:
            NetworkError: the node cannot be reached or refuses the connection; the message says why.
        """
        settings = settings or NetSettings()
        failure: NetworkError | None = None
        for address in target.addresses:
            try:
                opened = await cls._open(target, address, settings)
            except NetworkError as error:
                failure = error
                continue
            watch = WatchRequest(OBSERVING_VERSION, __version__, target.token, follow, stream, after)
            try:
                _write(opened, watch)
                async with asyncio.timeout(settings.handshake_seconds):
                    frame = await _next(opened, target)
                if not isinstance(frame, ObserverWelcome):
                    raise NetworkError(f"The node at {address} did not greet this observer.")
            except TimeoutError as error:
                opened.abort()
                raise NetworkError(f"The node at {address} did not answer in time.") from error
            except BaseException:
                opened.abort()
                raise
            return cls(opened, frame, address)
        assert failure is not None
        raise failure

    @staticmethod
    async def _open(target: Target, address: Address, settings: NetSettings) -> FrameStream:
        try:
            connection = await sockets.connect(address, settings.dial_seconds)
            transport, protocol = await secure(
                connection,
                StreamProtocol,
                client_context(target.credentials, [OBSERVE_ALPN]),
                target.credentials,
                dialing=True,
                seconds=settings.handshake_seconds,
            )
        except NetworkError as error:
            raise NetworkError(f"No connection with {address}: {error}") from error
        stream = FrameStream(transport, protocol, settings.max_frame_bytes)
        try:
            identity, _ = authenticate(transport, target.credentials)
            if target.node is not None and identity.node_id != target.node:
                raise NetworkError(
                    f"At {address} the node {identity} answered, and {short(target.node)} was expected: that "
                    "node no longer runs."
                )
        except BaseException:
            stream.abort()
            raise
        return stream

    async def frames(self) -> AsyncGenerator[HistoryBatch | EventBatch | HistoryEnd, None]:
        """Yield the node's frames until the connection ends. Answers to commands are consumed here.

        Raises:
            NetworkError: the connection ended; the message says why.
        """
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    frame = await _next(self._stream, None)
                match frame:
                    case CommandResult() | MembershipReport():
                        waiting = self._answers.pop(frame.number, None)
                        if waiting is not None and not waiting.done():
                            waiting.set_result(frame)
                    case HistoryBatch() | EventBatch() | HistoryEnd():
                        yield frame
                    case ObserverHeartbeat() | ObserverWelcome() | ObserverRefusal():
                        pass
        except TimeoutError as error:
            raise self._fail(f"nothing was heard from the node for {SILENCE_SECONDS:g} s") from error
        except NetworkError as error:
            self._fail(str(error))
            raise

    def _fail(self, reason: str) -> NetworkError:
        """Fail all pending commands with *reason*."""
        self._failure = NetworkError(reason)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(NetworkError(f"the connection ended before the answer: {reason}"))
        self._answers.clear()
        return self._failure

    async def order(self, what: CommandName) -> CommandResult:
        """Send a command and return its answer. Another task must consume `frames` meanwhile.

        Raises:
            NetworkError: the connection ended before the answer.
        """
        answer = await self._ask(lambda number: ObserverCommand(number, what))
        assert isinstance(answer, CommandResult)
        return answer

    async def state(self, statement: Statement) -> CommandResult:
        """Hand in a signed statement about a node, like a command.

        Raises:
            NetworkError: the connection ended before the answer.
        """
        answer = await self._ask(lambda number: StatementOrder(number, statement))
        assert isinstance(answer, CommandResult)
        return answer

    async def membership(self) -> MembershipReport:
        """Return which nodes the node knows, and who is kept out. Another task must consume `frames`.

        Raises:
            NetworkError: the connection ended before the answer.
        """
        answer = await self._ask(MembershipRequest)
        assert isinstance(answer, MembershipReport)
        return answer

    async def _ask(self, frame: Callable[[int], ObserverFrame]) -> CommandResult | MembershipReport:
        """Send the *frame* that is made with the number of a question, and return its answer."""
        if self._failure is not None:
            raise self._failure
        self._orders += 1
        number = self._orders
        waiting: asyncio.Future[CommandResult | MembershipReport]
        waiting = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        try:
            _write(self._stream, frame(number))
            return await waiting
        finally:
            self._answers.pop(number, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._stream.finish()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def asking(target: Target) -> AsyncGenerator[Observer, None]:
    """Connect to *target* for commands and questions; nothing is followed.

    Raises:
        NetworkError: the node cannot be reached, or refuses.
    """
    async with await Observer.connect(target, follow=False) as observer:
        reading = asyncio.create_task(_consume(observer))
        try:
            yield observer
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def command(target: Target, what: CommandName) -> CommandResult:
    """Connect to *target*, send one command, and return its answer.

    Raises:
        NetworkError: the node cannot be reached, refuses, or the connection broke before the answer.
    """
    async with asking(target) as observer:
        return await observer.order(what)


async def _consume(observer: Observer) -> None:
    async for _ in observer.frames():
        pass


def _write(stream: FrameStream, frame: ObserverFrame) -> None:
    stream.transport.write(encode_frame(encode(frame), MAX_FRAME_BYTES))


async def _next(stream: FrameStream, target: Target | None) -> NodeFrame:
    """Return the node's next frame.

    Raises:
        NetworkError: the node closed the connection, refused it, or sent an invalid frame.
    """
    try:
        body = await stream.next_body()
        if body is None:
            raise NetworkError("the node closed the connection")
        frame = decode_node(body)
    except PeerError as error:
        raise NetworkError(f"the node sent a frame that this program does not understand: {error}") from error
    except OSError as error:
        if target is not None:
            raise NetworkError(explain(error, target.credentials, dialing=True)) from error
        raise NetworkError(f"the connection broke ({error.strerror or error})") from error
    if isinstance(frame, ObserverRefusal):
        raise NetworkError(one_line(frame.reason, 400))
    return frame
