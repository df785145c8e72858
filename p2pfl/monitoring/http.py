"""A small HTTP server for probes and scrapes: GET only, one request a connection, everything bounded.

It runs in the node's event loop, so a client must not cost much. A request has at most `MAX_REQUEST_BYTES`
and arrives within `REQUEST_SECONDS`; its answer is read within `ANSWER_SECONDS`; there are at most
`MAX_CONNECTIONS`. The server of the standard library would take a thread for each client.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from p2pfl.net.transport.tasks import BackgroundTasks

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 8 * 1024
"""Request line and headers. Prometheus sends some 300 bytes."""

REQUEST_SECONDS = 5.0
"""From the accepted connection to the end of the request: clients send it at once."""

ANSWER_SECONDS = 10.0
"""For sending the answer: some ten KB, also over a bad network."""

MAX_CONNECTIONS = 16
"""A few Prometheus servers and probes at the same time; another connection is cut at once."""


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Handler = Callable[[], Answer]
"""Makes the answer to a GET of one path; called in the event loop, so it must return quickly."""


class HttpServer:
    """Answers GET requests for a few fixed paths."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        request_seconds: float = REQUEST_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._handlers = handlers
        self._request_seconds = request_seconds
        self._answer_seconds = answer_seconds
        self._servers: list[asyncio.Server] = []
        self._tasks = BackgroundTasks()
        self._connections = 0

    async def open(self, listening: Sequence[socket.socket]) -> None:
        """Serve on *listening* until `close`, which closes these sockets too."""
        for one in listening:
            self._servers.append(
                await asyncio.start_server(self._connected, sock=one, limit=MAX_REQUEST_BYTES)
            )

    async def close(self) -> None:
        """Stop listening, and cut the connections."""
        for server in self._servers:
            server.close()
        await self._tasks.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS:
            writer.transport.abort()
        else:
            self._connections += 1
            self._tasks.start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (answer := await self._answer(reader)) is not None:
                async with asyncio.timeout(self._answer_seconds):
                    await _send(writer, answer)
        except (OSError, TimeoutError) as error:
            logger.debug("a client of the metrics port was given up: %r", error)
            writer.transport.abort()
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer | None:
        """Return the answer to the request of *reader*; None if the client has gone."""
        try:
            async with asyncio.timeout(self._request_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return Answer(408, f"no request within {self._request_seconds:g} s\n".encode())
        except asyncio.IncompleteReadError as error:
            return Answer(400, b"the request is cut off\n") if error.partial else None
        except asyncio.LimitOverrunError:
            return Answer(431, f"a request has at most {MAX_REQUEST_BYTES} bytes\n".encode())
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return Answer(400, b"an HTTP/1.1 request is expected\n")
        method, target = words[0], words[1].partition(b"?")[0]
        handler = self._handlers.get(target.decode("ascii", "replace"))
        if handler is None:
            return Answer(404, f"there is only {', '.join(self._handlers)}\n".encode())
        if method != b"GET":
            return Answer(405, b"only GET is answered\n")
        try:
            return handler()
        except Exception:
            logger.exception("the answer to %s could not be made; the node continues", target)
            return Answer(500, b"a fault in this program; its log has the details\n")


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Send *answer* and wait until the system has taken all of it."""
    head = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
    )
    if answer.status == 405:
        head += "Allow: GET\r\n"
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(head.encode() + b"\r\n" + answer.body)
    await writer.drain()
