"""Idle bulk connections are kept, reused, never awaited, and closed when they are not needed any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.transport.tls import BLOB_ALPN, client_context
from p2pfl.wire.blobs import (
    LENGTH_BYTES,
    REFUSED,
    BlobRefusal,
    BlobRequest,
    decode_refusal,
    encode_request,
)
from p2pfl.wire.frames import HEADER_BYTES, encode_frame
from tests.support.federation import make_federation
from tests.support.meshes import FAST, WAIT_SECONDS, Lab, Node, lab, until
from tests.support.proxy import Proxy, proxy_to

LENGTH = 700_001
BLOBS = {
    blake3(blob).hexdigest(): blob for blob in (random.Random(seed).randbytes(LENGTH) for seed in range(3))
}
ONE, TWO, THREE = BLOBS
LONG = random.Random(3).randbytes(30_000_000)
ABSENT = "0" * 64
LINK, BULK = 0, 1
"""The first two connections through the proxy."""


class Pair:
    """A holder of the blobs and a puller, linked through a proxy that counts connections."""

    def __init__(
        self, world: Lab, federation: dict[str, Credentials], holder: Node, puller: Node, proxy: Proxy
    ) -> None:
        self.world = world
        self.federation = federation
        self.holder = holder
        self.puller = puller
        self.proxy = proxy
        self._dialled_before = proxy.connections

    @property
    def dialled(self) -> int:
        """Connections that the puller made since it was linked."""
        return self.proxy.connections - self._dialled_before

    async def pull(self, digest: str) -> None:
        await self.puller.mesh.pull(PullRequest(digest, LENGTH, [self.holder.id]))
        assert self.puller.store.path(digest).read_bytes() == BLOBS[digest]


@contextlib.asynccontextmanager
async def pair(
    path: Path, *, holding: NetSettings = FAST, pulling: NetSettings = FAST
) -> AsyncIterator[Pair]:
    federation = make_federation(path / "ca", "holder", "puller", "cat")
    async with lab(path) as world:
        holder = await world.start(federation["holder"], settings=holding)
        for digest, blob in BLOBS.items():
            put(holder, digest, blob)
        async with proxy_to(holder.mesh.port) as proxy:
            puller = await world.start(federation["puller"], [proxy.address], settings=pulling)
            await puller.told.until(lambda told: told.names == {"holder"})
            await holder.told.until(lambda told: told.names == {"puller"})
            yield Pair(world, federation, holder, puller, proxy)


def put(node: Node, digest: str, blob: bytes) -> None:
    path = node.store.new_path()
    path.write_bytes(blob)
    node.store.adopt(path, digest)


def troubles(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Guest:
    """A raw bulk connection with the certificate of a node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def ask(self, digest: str) -> None:
        self._writer.write(encode_request(BlobRequest(digest, 0)))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def length(self) -> int:
        """Read the head of an answer."""
        return int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")

    async def blob(self) -> bytes:
        return await self._reader.readexactly(await self.length())

    async def refusal(self) -> BlobRefusal:
        assert await self.length() == REFUSED
        frame = await self._reader.readexactly(HEADER_BYTES)
        return decode_refusal(await self._reader.readexactly(int.from_bytes(frame, "big")))

    async def is_closed(self) -> bool:
        """Wait until the node has closed; return False if it sends more bytes."""
        try:
            return await self._reader.read(1) == b""
        except OSError:
            return True


@contextlib.asynccontextmanager
async def guest(credentials: Credentials, node: Node) -> AsyncIterator[Guest]:
    context = client_context(credentials, [BLOB_ALPN])
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.mesh.port, ssl=context)
        try:
            yield Guest(reader, writer)
        finally:
            writer.transport.abort()


# --- the puller's side --------------------------------------------------------------------------------------


async def test_one_connection_carries_several_blobs(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        for digest in BLOBS:
            await them.pull(digest)
        assert them.dialled == 1
        received = them.puller.mesh.traffic.total("bulk", them.holder.id).received
        assert 3 * LENGTH <= received < 3.1 * LENGTH


async def test_simultaneous_pulls_have_a_connection_each_and_one_is_kept(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        await asyncio.gather(them.pull(ONE), them.pull(TWO))
        assert them.dialled == 2
        await until(lambda: len(them.proxy.open) == 2)  # the link and one more
        await them.pull(THREE)
        assert them.dialled == 2


async def test_an_idle_connection_that_was_cut_is_replaced_without_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        them.proxy.cut(BULK)
        await them.pull(TWO)
        assert them.dialled == 2
        assert troubles(caplog) == []
        assert [what for what, _ in them.puller.told.history] == ["linked"]


async def test_a_holder_closes_an_unused_connection_and_is_dialled_again(tmp_path: Path) -> None:
    # It waits as long as the slowest piece may take, too.
    hasty = msgspec.structs.replace(
        FAST,
        blob_keep_seconds=0.05,
        blob_idle_seconds=0.1,
        blob_min_bytes_per_second=FAST.blob_chunk_bytes * 20,
    )
    async with pair(tmp_path, holding=hasty) as them:
        await them.pull(ONE)
        await until(lambda: them.proxy.open == {LINK})
        await them.pull(TWO)
        assert them.dialled == 2


async def test_a_transfer_on_a_reused_connection_that_breaks_continues_where_it_stopped(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as them:
        them.proxy.back.cut_after = LENGTH + LENGTH // 2
        await them.pull(ONE)
        await them.pull(TWO)
        assert them.dialled == 2
        assert them.puller.mesh.traffic.total("bulk").received < 2.2 * LENGTH


async def test_an_idle_connection_is_closed_after_a_while(tmp_path: Path) -> None:
    async with pair(tmp_path, pulling=msgspec.structs.replace(FAST, blob_keep_seconds=0.05)) as them:
        await them.pull(ONE)
        await until(lambda: them.proxy.open == {LINK})
        await them.pull(TWO)
        assert them.dialled == 2


async def test_an_idle_connection_is_closed_with_the_link(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        assert them.proxy.open == {LINK, BULK}
        them.proxy.cut(LINK)
        await until(lambda: BULK not in them.proxy.open)


async def test_an_idle_connection_is_closed_with_the_mesh(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        await them.world.stop(them.puller)
        await until(lambda: not them.proxy.open)


async def test_a_missing_blob_on_a_reused_connection_does_not_prevent_other_pulls(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        with pytest.raises(NetworkError, match="it refused: it is not here"):
            await them.puller.mesh.pull(PullRequest(ABSENT, LENGTH, [them.holder.id]))
        await them.pull(TWO)


async def test_a_busy_holder_on_a_reused_connection_is_asked_again(tmp_path: Path) -> None:
    async with pair(tmp_path, holding=msgspec.structs.replace(FAST, max_serving=1)) as them:
        long = blake3(LONG).hexdigest()
        put(them.holder, long, LONG)
        await them.pull(ONE)
        async with guest(them.federation["cat"], them.holder) as other:
            other.ask(long)
            assert await other.length() == len(LONG)  # in progress from here on: the rest is not read
            pull = asyncio.create_task(them.pull(TWO))
            await until(lambda: them.dialled == 2)
            assert not pull.done()
        await pull


# --- the holder's side --------------------------------------------------------------------------------------


async def test_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    async with pair(tmp_path) as them, guest(them.federation["cat"], them.holder) as cat:
        cat.ask(ONE)
        assert await cat.blob() == BLOBS[ONE]
        cat.ask(ABSENT)
        assert await cat.refusal() == BlobRefusal("absent", "it is not here")
        cat.ask(TWO)
        cat.ask(THREE)
        assert await cat.blob() == BLOBS[TWO]
        assert await cat.blob() == BLOBS[THREE]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff" * 100,
        encode_frame(msgspec.msgpack.encode({"type": "pull", "digest": "../key", "offset": 0}), 999),
        bytes(HEADER_BYTES),
    ],
    ids=["too long a frame", "no digest", "an empty frame"],
)
async def test_an_invalid_second_request_ends_only_its_own_connection(
    tmp_path: Path, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        async with guest(them.federation["cat"], them.holder) as cat:
            cat.ask(ONE)
            assert await cat.blob() == BLOBS[ONE]
            cat.send(rubbish)
            assert await cat.is_closed()
        await them.pull(TWO)
        assert them.dialled == 1
        assert them.holder.told.names == {"puller"}
    assert "the bulk connection of cat" in caplog.text
    assert troubles(caplog) == []


async def test_the_number_of_bulk_connections_is_limited_including_idle_ones(tmp_path: Path) -> None:
    async with pair(tmp_path, holding=msgspec.structs.replace(FAST, max_bulk=2)) as them:
        await them.pull(ONE)
        async with guest(them.federation["cat"], them.holder) as cat:
            cat.ask(ONE)
            assert await cat.blob() == BLOBS[ONE]
            async with guest(them.federation["cat"], them.holder) as one_too_many:
                one_too_many.ask(ONE)
                assert await one_too_many.refusal() == BlobRefusal("busy", "2 bulk connections are open")
                assert await one_too_many.is_closed()
            cat.ask(TWO)
            assert await cat.blob() == BLOBS[TWO]
        await them.pull(TWO)
        assert them.dialled == 1
