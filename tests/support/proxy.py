"""A TCP proxy that can cut, stall or count what passes through it: a bad network for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

READ_BYTES = 16 * 1024


class Proxy:
    """Forwards connections to a port on loopback."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.cut_after: int | None = None
        """Bytes from the target after which a connection is cut; None lets all pass."""
        self.stall_after: int | None = None
        """Bytes from the target after which a connection passes nothing more, but stays open."""
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def retarget(self, port: int) -> None:
        """Forward connections from now on to *port*; before that they went wherever the proxy was made
        for."""
        self._target_port = port

    def stall(self) -> None:
        """Pass nothing on from now on, but leave connections open: a half-open network."""
        self._flowing.clear()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._writers.add(writer)
        opened = [writer]
        try:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(onward)
            opened.append(onward)
            await asyncio.gather(
                self._pump(reader, onward, None, None),
                self._pump(onward_reader, writer, self.cut_after, self.stall_after),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in opened:
                one.transport.abort()
                self._writers.discard(one)
            self._tasks.discard(task)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cut_after: int | None,
        stall_after: int | None,
    ) -> None:
        passed = 0
        while data := await reader.read(READ_BYTES):
            await self._flowing.wait()
            passed += len(data)
            if cut_after is not None and passed > cut_after:
                raise ConnectionResetError("the proxy cuts here")
            if stall_after is not None and passed > stall_after:
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Open a proxy to *port* on loopback."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
