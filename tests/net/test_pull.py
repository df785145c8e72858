"""Pulling blobs between meshes: over real TLS, through bad networks, from corrupt holders."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pfl.errors import BlobError, NetworkError
from p2pfl.net.bulk import puller as pulling
from p2pfl.net.bulk import server, transfer
from p2pfl.net.bulk.request import PullRequest
from p2pfl.store.blobs import QUICK_BYTES
from tests.support.federation import make_federation
from tests.support.meshes import FAST, Lab, Node, lab
from tests.support.proxy import Proxy, proxy_to

BLOB = random.Random(1).randbytes(700_001)
DIGEST = blake3(BLOB).hexdigest()


@pytest.fixture(autouse=True, params=[QUICK_BYTES, 0], ids=["quick", "long"])
def quick_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Handle the blob as a short one in the event loop, and as a long one in threads."""
    for module in (pulling, server, transfer):
        monkeypatch.setattr(module, "QUICK_BYTES", request.param)
    quick: int = request.param
    return quick


def put(node: Node, data: bytes = BLOB, digest: str = DIGEST) -> None:
    """Store *data* as the blob of *node*, even if its digest is another."""
    path = node.store.new_path()
    path.write_bytes(data)
    node.store.adopt(path, digest)


async def linked(world: Lab, tmp_path: Path, *names: str) -> list[Node]:
    """Start nodes with these names, all linked with each other."""
    federation = make_federation(tmp_path / "ca", *names)
    nodes = [await world.start(federation[names[0]])]
    nodes += [await world.start(federation[name], [nodes[0].address]) for name in names[1:]]
    for node in nodes:
        await node.told.until(lambda told: len(told.names) == len(names) - 1)
    return nodes


async def test_a_pulled_blob_is_in_the_store_byte_for_byte(tmp_path: Path, quick_bytes: int) -> None:
    async with lab(tmp_path) as world:
        holder, puller = await linked(world, tmp_path, "holder", "puller")
        put(holder)
        reports: list[tuple[str, int, int]] = []
        await puller.mesh.pull(
            PullRequest(DIGEST, len(BLOB), [holder.id], lambda *report: reports.append(report))
        )
        assert puller.store.path(DIGEST).read_bytes() == BLOB
        assert reports[-1] == (holder.id, len(BLOB), len(BLOB))
        if quick_bytes:
            assert not holder.told.pushes, "a quick blob is through before anybody could see it pass"
        else:
            await holder.told.until(lambda told: ("puller", len(BLOB), len(BLOB)) in told.pushes)
        assert puller.mesh.traffic.total("bulk", holder.id).received >= len(BLOB)
        assert holder.mesh.traffic.total("bulk").sent >= len(BLOB)


async def test_simultaneous_pulls_of_one_blob_share_a_transfer(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        holder, puller = await linked(world, tmp_path, "holder", "puller")
        put(holder)
        await asyncio.gather(
            *(puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id])) for _ in range(5))
        )
        assert puller.mesh.traffic.total("bulk").received < 1.1 * len(BLOB)


async def test_linked_nodes_are_asked_when_the_sources_do_not_have_the_blob(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        holder, empty, puller = await linked(world, tmp_path, "holder", "empty", "puller")
        put(holder)
        await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [empty.id]))
        assert puller.store.has(DIGEST)


async def test_a_blob_that_no_node_has_is_a_network_error_that_names_the_asked_nodes(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        empty, puller = await linked(world, tmp_path, "empty", "puller")
        with pytest.raises(NetworkError, match="from empty: it refused: it is not here"):
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [empty.id]))


async def test_a_broken_transfer_continues_where_it_stopped(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "holder", "puller")
    async with lab(tmp_path) as world:
        puller = await world.start(federation["puller"])
        holder = await world.start(federation["holder"])
        put(holder)
        async with proxy_to(holder.mesh.port) as proxy:
            await world.stop(puller)
            puller = await world.start(federation["puller"], [proxy.address])
            await puller.told.until(lambda told: told.names == {"holder"})
            proxy.back.cut_after = 300_000
            before = proxy.connections
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id]))
            assert proxy.connections - before >= 3
        assert puller.store.path(DIGEST).read_bytes() == BLOB
        assert puller.mesh.traffic.total("bulk").received < 1.2 * len(BLOB)


async def test_wrong_bytes_are_refused_and_the_blob_is_pulled_from_another_holder(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        liar, honest, puller = await linked(world, tmp_path, "liar", "honest", "puller")
        put(liar, b"\0" * len(BLOB))
        put(honest)
        await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [liar.id, honest.id]))
        assert puller.store.path(DIGEST).read_bytes() == BLOB


async def test_another_length_than_the_schemas_is_refused_before_a_byte_is_stored(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        holder, puller = await linked(world, tmp_path, "holder", "puller")
        put(holder, BLOB + b"more")
        with pytest.raises(
            BlobError, match=f"{len(BLOB) + 4} bytes was announced where only one of {len(BLOB)} bytes fits"
        ):
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id]))
        assert puller.mesh.traffic.total("bulk").received < 1000


async def test_wrong_bytes_from_every_holder_are_a_blob_error(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        liar, puller = await linked(world, tmp_path, "liar", "puller")
        put(liar, b"\0" * len(BLOB))
        with pytest.raises(BlobError, match="other bytes"):
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [liar.id]))
        assert not puller.store.has(DIGEST)


async def test_wrong_bytes_of_an_earlier_pull_are_not_blamed_on_an_honest_holder(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        honest, puller = await linked(world, tmp_path, "honest", "puller")
        put(honest)
        with puller.store.partial(DIGEST, len(BLOB)) as partial:
            partial.write(b"\0" * 1000)
        await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [honest.id]))
        assert puller.store.path(DIGEST).read_bytes() == BLOB


async def test_a_busy_holder_is_asked_again_later(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "holder", "puller")
    async with lab(tmp_path) as world:
        holder = await world.start(
            federation["holder"], settings=msgspec.structs.replace(FAST, max_serving=1)
        )
        puller = await world.start(federation["puller"], [holder.address])
        await puller.told.until(lambda told: told.names == {"holder"})
        blobs = [random.Random(seed).randbytes(3_000_000) for seed in range(3)]
        digests = [blake3(blob).hexdigest() for blob in blobs]
        for blob, digest in zip(blobs, digests, strict=True):
            put(holder, blob, digest)
        await asyncio.gather(
            *(puller.mesh.pull(PullRequest(digest, 3_000_000, [holder.id])) for digest in digests)
        )
        assert all(puller.store.has(digest) for digest in digests)


async def test_a_stalled_transfer_continues_on_a_new_connection(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "holder", "puller")
    settings = msgspec.structs.replace(FAST, blob_idle_seconds=0.2)
    async with lab(tmp_path) as world:
        holder = await world.start(federation["holder"])
        put(holder)
        async with proxy_to(holder.mesh.port) as proxy:
            puller = await world.start(federation["puller"], [proxy.address], settings=settings)
            await puller.told.until(lambda told: told.names == {"holder"})
            proxy.back.stall_after = 300_000

            def network_recovers(node: str, done: int, total: int) -> None:
                proxy.back.stall_after = None

            before = proxy.connections
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id], network_recovers))
            assert proxy.connections - before == 2
        assert puller.store.path(DIGEST).read_bytes() == BLOB
        assert puller.mesh.traffic.total("bulk").received < 1.2 * len(BLOB)


async def at_its_address_answers_another(world: Lab, tmp_path: Path, proxy: Proxy) -> tuple[Node, Node, Node]:
    """Return a holder, a node that answers at its address, and a puller."""
    federation = make_federation(tmp_path / "ca", "holder", "other", "puller")
    holder, other = [await world.start(federation[name]) for name in ("holder", "other")]
    proxy.retarget(holder.mesh.port)
    puller = await world.start(federation["puller"], [proxy.address])
    for node in (holder, puller):
        await node.told.until(lambda told: len(told.names) == 1)
    proxy.retarget(other.mesh.port)
    return holder, other, puller


async def test_another_node_at_a_holders_address_is_not_asked(tmp_path: Path) -> None:
    async with lab(tmp_path) as world, proxy_to(1) as proxy:
        _, other, puller = await at_its_address_answers_another(world, tmp_path, proxy)
        put(other)
        with pytest.raises(NetworkError, match="from holder: it refused: it is not here"):
            await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), []))
        assert other.mesh.traffic.total("bulk").sent == 0


async def test_a_holder_at_whose_address_another_node_answers_is_asked_to_dial_back(tmp_path: Path) -> None:
    async with lab(tmp_path) as world, proxy_to(1) as proxy:
        holder, _, puller = await at_its_address_answers_another(world, tmp_path, proxy)
        put(holder)
        await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), []))
        assert puller.store.path(DIGEST).read_bytes() == BLOB


async def test_a_cancelled_pull_is_continued_by_the_next_one(tmp_path: Path) -> None:
    async with lab(tmp_path) as world:
        holder, puller = await linked(world, tmp_path, "holder", "puller")
        put(holder)
        under_way = asyncio.Event()
        pull = asyncio.create_task(
            puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id], lambda *_: under_way.set()))
        )
        await under_way.wait()
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        await puller.mesh.pull(PullRequest(DIGEST, len(BLOB), [holder.id]))
        assert puller.store.path(DIGEST).read_bytes() == BLOB
