from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from p2pfl.monitoring.http import MAX_CONNECTIONS, MAX_REQUEST_BYTES, Answer, HttpServer

PATIENCE_SECONDS = 20.0


class Served:
    """A server on a free port, and what clients send it."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes, *, end: bool = False) -> bytes:
        """Send *request*, and return all that is answered."""
        reader, writer = await self.open()
        try:
            writer.write(request)
            if end:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str) -> bytes:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def is_answered(self) -> bool:
        """Return whether a request is answered; otherwise its connection is cut."""
        try:
            return (await self.get("/yes")).endswith(b"yes")
        except ConnectionError:
            return False


def yes() -> Answer:
    return Answer(200, b"yes")


@asynccontextmanager
async def served(
    ok: Callable[[], Answer] = yes,
    *,
    request_seconds: float = PATIENCE_SECONDS,
    answer_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Served]:
    server = HttpServer(
        {"/ok": ok, "/yes": yes}, request_seconds=request_seconds, answer_seconds=answer_seconds
    )
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await server.open([listening])
    try:
        yield Served(port)
    finally:
        await server.close()


async def test_a_get_is_answered_with_length_and_type_and_the_connection_ends() -> None:
    async with served() as server:
        answer = await server.get("/ok?x=1")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: 3",
        b"Cache-Control: no-store",
        b"Connection: close",
    ]
    assert body == b"yes"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /ok HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"HEAD /ok HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /no HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /ok\r\n\r\n", b"400 Bad Request"),
        (b"GET /ok HTTP/2\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET /ok HTTP/1.1\r\nX: " + b"x" * MAX_REQUEST_BYTES, b"431 Request Header Fields Too Large"),
    ],
)
async def test_everything_else_is_refused(request_: bytes, status: bytes) -> None:
    async with served() as server:
        answer = await server.ask(request_)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"Allow: GET" in answer) == (b"405" in status)
        assert (await server.get("/ok")).endswith(b"yes")


async def test_a_request_that_is_cut_off_is_refused_and_none_at_all_is_not_answered() -> None:
    async with served() as server:
        assert b"the request is cut off" in await server.ask(b"GET /ok HT", end=True)
        assert await server.ask(b"", end=True) == b""


async def test_a_request_that_arrives_byte_by_byte_is_answered() -> None:
    async with served() as server:
        reader, writer = await server.open()
        for byte in b"GET /ok HTTP/1.0\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).endswith(b"yes")
        writer.close()


async def test_a_client_that_never_finishes_its_request_is_cut_off() -> None:
    async with served(request_seconds=0.05) as server:
        answer = await server.ask(b"GET /ok HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")


async def test_clients_that_do_not_read_are_cut_off_and_free_their_places() -> None:
    large = Answer(200, bytes(16 * 2**20))  # more than the buffers of both sides
    async with served(lambda: large, answer_seconds=0.05) as server, asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                client.send(b"GET /ok HTTP/1.1\r\n\r\n")
            while not await server.is_answered():
                pass


async def test_connections_are_bounded_and_a_place_becomes_free_again() -> None:
    async with served() as server:
        idle = [await server.open() for _ in range(MAX_CONNECTIONS)]
        assert not await server.is_answered()
        reader, writer = idle.pop()
        writer.write(b"GET /ok HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"yes")
        writer.close()
        assert await server.is_answered()
        for _, writer in idle:
            writer.close()


async def test_a_fault_is_logged_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Answer:
        raise ValueError("a bug")

    async with served(fail) as server:
        assert (await server.get("/ok")).startswith(b"HTTP/1.1 500 Internal Server Error")
        assert (await server.get("/yes")).endswith(b"yes")
    assert [record.levelno for record in caplog.records if record.name == "p2pfl.monitoring.http"] == [
        logging.ERROR
    ]


async def test_closing_cuts_idle_clients_and_frees_the_port() -> None:
    async with served() as server:
        reader, writer = await server.open()
        await server.get("/ok")
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await server.open()
