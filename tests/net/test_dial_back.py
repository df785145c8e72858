"""Dial-back: a holder that cannot be dialled is asked over the link to dial the puller."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk import holders
from p2pfl.net.bulk.dial_back import MAX_DIALS, DialBackResponder
from p2pfl.net.bulk.dialler import BulkDialler
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.transport.tls import BLOB_ALPN, client_context
from p2pfl.wire.blobs import Serve, encode_serve
from p2pfl.wire.links import Call
from tests.support.federation import make_federation
from tests.support.meshes import FAST, WAIT_SECONDS, Lab, Node, lab, until
from tests.support.proxy import Proxy, proxy_to

LENGTH = 3_000_001
BLOBS = {
    blake3(blob).hexdigest(): blob for blob in (random.Random(seed).randbytes(LENGTH) for seed in range(3))
}
ONE, TWO, THREE = BLOBS
TICKET = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try the other direction soon after a dial that hangs."""
    monkeypatch.setattr(holders, "DIRECTION_DELAY_SECONDS", 0.2)


class Pair:
    """A holder of the blobs and a puller, which can reach the holder only through a proxy."""

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
        """How often the puller has dialled since it was linked."""
        return self.proxy.connections - self._dialled_before

    async def pull(self, digest: str) -> None:
        await self.puller.mesh.pull(PullRequest(digest, LENGTH, [self.holder.id]))
        assert self.puller.store.path(digest).read_bytes() == BLOBS[digest]


@contextlib.asynccontextmanager
async def pair(path: Path, settings: NetSettings = FAST) -> AsyncIterator[Pair]:
    """Link the two; later connections to the holder hang."""
    federation = make_federation(path / "ca", "holder", "puller", "cat")
    async with lab(path) as world:
        holder = await world.start(federation["holder"])
        for digest in BLOBS:
            give(holder, digest)
        async with proxy_to(holder.mesh.port) as proxy:
            puller = await world.start(federation["puller"], [proxy.address], settings=settings)
            for node in (holder, puller):
                await node.told.until(lambda told: len(told.names) == 1)
            proxy.back.stall_after = 0
            yield Pair(world, federation, holder, puller, proxy)


def give(node: Node, digest: str) -> None:
    path = node.store.new_path()
    path.write_bytes(BLOBS[digest])
    node.store.adopt(path, digest)


async def shut(node: Node) -> None:
    """Stop *node* from listening; it can still dial."""
    await node.mesh._acceptor.close()


def ignore_dial_backs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore dial-back requests, and give the next one `TICKET`."""
    monkeypatch.setattr(DialBackResponder, "requested", lambda *_: None)
    monkeypatch.setattr(secrets, "token_hex", lambda _: TICKET)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the node ids of later bulk dials."""
    dials: list[str] = []
    dial = BulkDialler._dial

    async def recorded(self: BulkDialler, node: str, *rest: Any) -> Any:
        dials.append(node)
        return await dial(self, node, *rest)

    monkeypatch.setattr(BulkDialler, "_dial", recorded)
    return dials


async def offer(node: Node, credentials: Credentials, data: bytes) -> bytes:
    """Send *data* on a bulk connection to *node*; return its answer until it closes."""
    context = client_context(credentials, [BLOB_ALPN])
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.mesh.port, ssl=context)
        try:
            writer.write(data)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


async def test_a_holder_that_cannot_be_dialled_dials_back_and_the_connection_is_reused(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as them:
        await them.pull(ONE)
        await them.pull(TWO)
        assert them.dialled == 1, "the first try only"
        assert them.puller.mesh.traffic.total("bulk", them.holder.id).received > 2 * LENGTH
        assert them.holder.mesh.traffic.total("bulk", them.puller.id).sent > 2 * LENGTH
        assert them.puller.told.refusals == []


async def test_an_undialable_holder_is_remembered_and_asked_to_dial_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path, msgspec.structs.replace(FAST, blob_keep_seconds=0.0)) as them:
        await them.pull(ONE)
        monkeypatch.setattr(holders, "DIRECTION_DELAY_SECONDS", WAIT_SECONDS)
        await them.pull(TWO)
        assert them.dialled == 1


async def test_dialling_is_tried_again_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "REDIAL_SECONDS", 0.0)
    async with pair(tmp_path, msgspec.structs.replace(FAST, blob_keep_seconds=0.0)) as them:
        await them.pull(ONE)
        them.proxy.back.stall_after = None
        ignore_dial_backs(monkeypatch)
        await them.pull(TWO)
        assert them.dialled == 2


async def test_simultaneous_pulls_have_a_connection_each(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        await asyncio.gather(*(them.pull(digest) for digest in BLOBS))


async def test_if_neither_side_can_dial_the_error_names_both_addresses(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as them:
        them.proxy.back.stall_after = None
        await shut(them.holder)
        await shut(them.puller)
        with pytest.raises(NetworkError) as told:
            await them.pull(ONE)
        assert f"holder cannot be dialled at {them.proxy.address}" in str(told.value)
        assert f"could not dial back, since the puller cannot be dialled at {them.puller.address}" in str(
            told.value
        )


async def test_an_unreachable_node_is_asked_last_and_has_a_back_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(FAST, dial_seconds=0.2, handshake_seconds=0.5)
    async with pair(tmp_path, settings) as them:
        ignore_dial_backs(monkeypatch)
        with pytest.raises(
            NetworkError, match=r"holder cannot be dialled at .* it did not dial back in time"
        ):
            await them.pull(ONE)
        dials = counted(monkeypatch)
        cat = await them.world.start(them.federation["cat"], [them.puller.address])
        await them.puller.told.until(lambda told: "cat" in told.names)
        give(cat, ONE)
        await them.pull(ONE)
        with pytest.raises(NetworkError, match="holder cannot be dialled"):
            await them.pull(TWO)
        assert set(dials) == {cat.id}, "the holder is not even tried"


async def test_a_source_without_a_link_is_dialled_only_when_no_linked_node_has_the_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        cat = await them.world.start(them.federation["cat"], [them.puller.address])
        await them.puller.told.until(lambda told: "cat" in told.names)
        give(cat, ONE)
        await them.world.stop(them.holder)
        await them.puller.told.until(lambda told: told.names == {"cat"})
        dials = counted(monkeypatch)
        await them.pull(ONE)
        assert set(dials) == {cat.id}


async def test_an_unknown_ticket_is_closed_without_a_notice(tmp_path: Path) -> None:
    async with pair(tmp_path) as them:
        assert await offer(them.puller, them.federation["cat"], encode_serve(Serve(TICKET))) == b""
        assert them.puller.told.refusals == []
        await them.pull(ONE)


async def test_a_ticket_of_another_node_is_refused_and_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        ignore_dial_backs(monkeypatch)
        pull = asyncio.create_task(them.pull(ONE))
        await until(lambda: bool(them.puller.mesh._dial_backs._open))
        assert await offer(them.puller, them.federation["cat"], encode_serve(Serve(TICKET))) == b""
        await them.puller.told.until_refused("another node was asked to dial back")
        assert them.puller.mesh._dial_backs._open
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        assert not them.puller.mesh._dial_backs._open


async def test_a_holder_that_sends_before_a_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        ignore_dial_backs(monkeypatch)
        pull = asyncio.create_task(them.pull(ONE))
        await until(lambda: bool(them.puller.mesh._dial_backs._open))
        data = encode_serve(Serve(TICKET)) + b"more"
        assert await offer(them.puller, them.federation["holder"], data) == b""
        await them.puller.told.until_refused("it did not wait for its turn")
        pull.cancel()
        await asyncio.wait([pull])


async def test_a_flood_of_dial_back_requests_causes_few_dials_and_ends_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        dials = counted(monkeypatch)
        await shut(them.puller)
        failures: list[object] = []
        monkeypatch.setattr(them.puller.mesh._dial_backs, "failed", lambda *said: failures.append(said))
        for number in range(500):
            them.puller.mesh._neighbours.send(them.holder.id, Call(f"{number:032x}"))
        await until(lambda: len(failures) == 500)
        for number in range(500, 600):
            them.puller.mesh._neighbours.send(them.holder.id, Call(f"{number:032x}"))
        await until(lambda: len(failures) == 600)
        assert set(dials) == {them.puller.id}
        assert len(dials) <= MAX_DIALS
        assert them.holder.told.names == {"puller"}


async def test_the_end_of_the_link_cancels_a_dial_back_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as them:
        ignore_dial_backs(monkeypatch)
        pull = asyncio.create_task(them.puller.mesh._dial_backs.connect(them.holder.id))
        await until(lambda: bool(them.puller.mesh._dial_backs._open))
        await them.world.stop(them.holder)
        with pytest.raises(NetworkError, match="the link to it ended before it dialled back"):
            await pull
