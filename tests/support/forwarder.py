"""Address translation of a home router for outgoing TCP connections, in user space, for tests.

    python -m tests.support.forwarder INSIDE:PORT=OUTSIDE:PORT...

A connection to an inside address is forwarded to the outside one, which sees the router's address. Nothing
listens outside, so there are no incoming connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import partial

PIECE_BYTES = 64 * 1024


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _connect(host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, back = await asyncio.open_connection(host, port)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def main(pairs: list[str]) -> None:
    for pair in pairs:
        (inside, inner), (outside, outer) = (end.rsplit(":", 1) for end in pair.split("="))
        await asyncio.start_server(partial(_connect, outside, int(outer)), inside, int(inner))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
