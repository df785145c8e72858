from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from p2pfl.config import NetSettings
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.bulk import server
from p2pfl.net.bulk.server import BlobServer
from p2pfl.net.transport.stream import FrameStream
from p2pfl.net.transport.traffic import Meter, Traffic
from p2pfl.store.blobs import BlobStore
from p2pfl.wire.blobs import (
    BlobRefusal,
    BlobRequest,
    LinkedNode,
    MeasureReply,
    MeasureRequest,
    encode_length,
    encode_refusal,
    encode_reply,
)

DIGEST = "0" * 64

ABOUT = MeasureReply(1.5e9, "1.0", (LinkedNode("a" * 52, "ant"),))

BLOB = bytes(range(256)) * (12 * 1024)
"""3 MiB, which is not short."""


class Threads(ThreadPoolExecutor):
    """Threads that record how many bytes they are told to read."""

    def __init__(self) -> None:
        super().__init__(4)
        self.sizes: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sizes += args
        return super().submit(fn, *args, **kwargs)


class Stream:
    """The connection of a puller that reads nothing until *opened* is set, and then everything."""

    def __init__(self, opened: asyncio.Event) -> None:
        self.meter = Meter()
        self.transport = self
        self.received = b""
        self.limit = 0
        self._opened = opened

    def set_write_buffer_limits(self, high: int) -> None:
        self.limit = high

    async def write(self, data: bytes) -> None:
        await self._opened.wait()
        self.received += data

    async def next_body(self) -> None:
        """The puller sends no other request."""

    def abort(self) -> None:
        """The connection ends."""


async def serve(tmp_path: Path, pullers: int) -> tuple[list[Stream], list[int]]:
    """Serve the blob to *pullers* at the same time; return their streams and the sizes of the reads."""
    store = BlobStore(tmp_path)
    (tmp_path / DIGEST).write_bytes(BLOB)
    with Threads() as threads:
        serving = BlobServer(store, NetSettings(), Traffic(), threads, lambda *_: None, lambda: ABOUT)
        opened = asyncio.Event()
        streams = [Stream(opened) for _ in range(pullers)]
        identity = PeerIdentity("n" * 64, "puller", "node", "lab")
        async with asyncio.TaskGroup() as tasks:
            for stream in streams:
                request = BlobRequest(DIGEST, 0)
                tasks.create_task(serving.serve(cast(FrameStream, stream), identity, request))
            await asyncio.sleep(0)
            opened.set()  # all transfers are under way, and none has read anything
        return streams, threads.sizes


@pytest.mark.parametrize("size", [0, 1, server.PIECE_BYTES + 1])
async def test_a_measurement_is_answered_with_as_many_bytes_as_wanted(tmp_path: Path, size: int) -> None:
    opened = asyncio.Event()
    opened.set()
    stream = Stream(opened)
    with Threads() as threads:
        serving = BlobServer(
            BlobStore(tmp_path), NetSettings(), Traffic(), threads, lambda *_: None, lambda: ABOUT
        )
        identity = PeerIdentity("n" * 64, "puller", "node", "lab")
        await serving.serve(cast(FrameStream, stream), identity, MeasureRequest(size))
    reply = encode_reply(ABOUT, size)
    assert stream.received.startswith(reply)
    assert len(stream.received) == len(reply) + size


async def test_a_person_s_certificate_measures_nothing(tmp_path: Path) -> None:
    opened = asyncio.Event()
    opened.set()
    stream = Stream(opened)
    with Threads() as threads:
        serving = BlobServer(
            BlobStore(tmp_path), NetSettings(), Traffic(), threads, lambda *_: None, lambda: ABOUT
        )
        identity = PeerIdentity("n" * 64, "olga", "operator", "lab")
        await serving.serve(cast(FrameStream, stream), identity, MeasureRequest(5))
    assert stream.received == encode_refusal(
        BlobRefusal("role", "the certificate of olga has the role operator")
    )


@pytest.mark.parametrize(
    ("pullers", "size"), [(1, 1024 * 1024), (4, 1024 * 1024), (16, 256 * 1024), (32, 128 * 1024)]
)
async def test_transfers_share_the_memory_for_pieces(tmp_path: Path, pullers: int, size: int) -> None:
    streams, sizes = await serve(tmp_path, pullers)
    assert all(stream.received == encode_length(len(BLOB)) + BLOB for stream in streams)
    assert sizes[:pullers] == [size] * pullers
    assert 2 * pullers * size <= server.SERVING_BYTES


async def test_a_piece_at_a_time_waits_in_the_buffer_of_a_connection(tmp_path: Path) -> None:
    streams, _ = await serve(tmp_path, 1)
    assert streams[0].limit == server.PIECE_BYTES
