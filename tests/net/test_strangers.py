"""Connections that do not belong to the federation: each is ended with a clear reason, the mesh continues."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfl.identity.credentials import Credentials
from p2pfl.identity.signatures import signer_of
from p2pfl.net.links.handshake import Handshakes
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, client_context
from p2pfl.wire import links
from p2pfl.wire.blobs import (
    LENGTH_BYTES,
    MAX_BULK_FRAME_BYTES,
    BlobRefusal,
    BlobRequest,
    decode_refusal,
    encode_request,
)
from p2pfl.wire.codec import ControlFrame, decode, encode
from p2pfl.wire.frames import FrameDecoder, encode_frame
from tests.support.federation import make_federation
from tests.support.meshes import FAST, WAIT_SECONDS, Lab, Node, lab, new_local, until

MAX_BYTES = FAST.max_frame_bytes


@pytest.fixture
def federation(tmp_path: Path) -> dict[str, Credentials]:
    return make_federation(tmp_path / "ca", "ant", "bee", "cat")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ant(world: Lab, federation: dict[str, Credentials]) -> AsyncIterator[Node]:
    """A node with a link, which still exists after the test; the node then accepts another link."""
    node = await world.start(federation["ant"])
    bee = await world.start(federation["bee"], [node.address])
    await node.told.until(lambda told: told.names == {"bee"})
    yield node
    assert [what for what, _ in node.told.history] == ["linked"]
    assert bee.told.names == {"ant"}


async def answer_to(
    node: Node, data: bytes, *, context: ssl.SSLContext | None = None, until: bytes | None = None
) -> bytes:
    """Connect to *node*, send *data*, and return its answer until it closes, or up to *until*."""
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.mesh.port, ssl=context)
        answer = b""
        try:
            writer.write(data)
            while piece := await reader.read(65536):
                answer += piece
                if until is not None and until in answer:
                    break
        except OSError:  # reset: it did not care to read all
            pass
        finally:
            writer.transport.abort()
        return answer


def frames(data: bytes) -> list[ControlFrame]:
    return [decode(body) for body in FrameDecoder(MAX_BYTES).feed(data)]


def refusal_in(answer: bytes) -> BlobRefusal:
    [body] = FrameDecoder(MAX_BULK_FRAME_BYTES).feed(answer[LENGTH_BYTES:])
    return decode_refusal(body)


def hello(credentials: Credentials, **changes: object) -> bytes:
    """Return the first frame of a node with *credentials*."""
    local = replace(new_local(), signer=signer_of(credentials))
    frame = links.Hello("0.1.0", local.claim(credentials.node_id), 9000, (), 2, 2, "", 0)
    return encode_frame(encode(msgspec.structs.replace(frame, **changes)), MAX_BYTES)


async def test_a_plain_text_client_ends_its_own_connection(ant: Node) -> None:
    await answer_to(ant, b"GET / HTTP/1.1\r\nHost: ant\r\n\r\n")
    await ant.told.until_refused("does not speak TLS")


async def test_a_mebibyte_of_random_bytes_ends_its_own_connection(ant: Node) -> None:
    await answer_to(ant, random.Random(7).randbytes(1024 * 1024))
    await ant.told.until_refused("does not speak TLS")


async def test_random_bytes_inside_tls_end_their_own_connection(
    ant: Node, federation: dict[str, Credentials]
) -> None:
    noise = random.Random(7).randbytes(1024 * 1024)
    answer = await answer_to(ant, noise, context=client_context(federation["cat"]))
    reason = await ant.told.until_refused("a frame of")
    [refusal] = frames(answer)
    assert isinstance(refusal, links.Refusal)
    assert refusal.reason in reason


async def test_a_frame_announcing_4_gib_ends_its_own_connection(
    ant: Node, federation: dict[str, Credentials]
) -> None:
    answer = await answer_to(ant, b"\xff" * 4, context=client_context(federation["cat"]))
    said = f"a frame of {2**32 - 1} bytes was announced; at most {MAX_BYTES} are allowed"
    assert said in await ant.told.until_refused("a frame of")
    assert frames(answer) == [links.Refusal("protocol", said)]


async def test_a_frame_announcing_4_gib_on_a_link_ends_that_link(
    ant: Node, federation: dict[str, Credentials], world: Lab
) -> None:
    other = await world.start(federation["cat"])
    ready = encode_frame(encode(links.Ready(10**6)), MAX_BYTES)
    answer = await answer_to(
        other,
        hello(federation["bee"]) + ready + b"\xff" * 4,
        context=client_context(federation["bee"], [CONTROL_ALPN]),
    )
    assert isinstance(frames(answer)[0], links.Welcome)
    assert isinstance(frames(answer)[-1], links.Refusal)
    await other.told.until(lambda told: len(told.history) >= 2)
    assert other.told.history[0] == ("linked", "bee")
    assert "it broke the protocol: a frame of 4294967295 bytes" in other.told.history[1][0]


async def test_a_foreign_ca_is_named_on_both_sides(ant: Node, world: Lab, tmp_path: Path) -> None:
    stranger = make_federation(tmp_path / "other", "dog")["dog"]
    dog = await world.start(stranger, [ant.address])
    assert "signed by another CA" in await dog.told.until_refused("another CA")
    await ant.told.until(lambda told: bool(told.refusals))
    assert dog.told.names == set()


async def test_an_expired_certificate_is_named_on_both_sides(ant: Node, world: Lab, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=500)
    expired = make_federation(tmp_path / "ca", "old", now=long_ago)["old"]
    old = await world.start(expired, [ant.address])
    assert "expired" in await old.told.until_refused("expired")
    assert "expired" in await ant.told.until_refused("expired")


async def test_tls_1_2_is_refused(ant: Node, federation: dict[str, Credentials]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await answer_to(ant, b"", context=context)
    assert "TLS 1.3" in await ant.told.until_refused("TLS 1.3")


@pytest.mark.parametrize("role", ["operator", "observer"])
async def test_only_nodes_become_links(ant: Node, world: Lab, tmp_path: Path, role: str) -> None:
    guest = make_federation(tmp_path / "ca", "guest", role=role)["guest"]  # type: ignore[arg-type]
    dialer = await world.start(guest, [ant.address])
    assert f"has the role {role}" in await ant.told.until_refused("role")
    assert (
        f"refused this device: the certificate of guest has the role {role}"
        in await dialer.told.until_refused("role")
    )


async def test_a_node_of_protocol_version_1_is_told_to_update(
    ant: Node, federation: dict[str, Credentials]
) -> None:
    assert await answer_to(ant, b"", context=client_context(federation["cat"], ["p2pfl/1"]))
    reason = await ant.told.until_refused("shares no version of the protocol")
    assert reason.endswith("Install the same version of p2pfl on both.")


async def test_protocol_versions_without_a_common_one_are_refused_with_both_ranges(
    ant: Node, federation: dict[str, Credentials]
) -> None:
    answer = await answer_to(
        ant, hello(federation["cat"], lowest=7, highest=9), context=client_context(federation["cat"])
    )
    [refusal] = frames(answer)
    assert isinstance(refusal, links.Refusal)
    assert refusal.kind == "version"
    assert "7 to 9" in refusal.reason
    assert "7 to 9" in await ant.told.until_refused("versions")


@pytest.mark.parametrize("name", [None, "p2pfl/1"], ids=["hello", "alpn"])
async def test_a_node_of_another_version_is_dialled_seldom_and_named_once(
    world: Lab, federation: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    loop, dial = asyncio.get_running_loop(), Handshakes.dial
    dials: list[float] = []

    async def recorded(self: Handshakes, *rest: Any) -> Any:
        if name is not None:
            self._client = client_context(federation["bee"], [name])
        dials.append(loop.time())
        return await dial(self, *rest)

    monkeypatch.setattr(Handshakes, "dial", recorded)
    if name is None:
        monkeypatch.setattr("p2pfl.net.links.admission.PROTOCOL_VERSIONS", (7, 9))
    ant = await world.start(federation["ant"])
    settings = msgspec.structs.replace(FAST, redial_version_seconds=0.5)
    bee = await world.start(federation["bee"], [ant.address], settings=settings)
    await until(lambda: len(dials) == 3)
    assert all(after - before >= 0.5 for before, after in pairwise(dials))
    await until(lambda: bool(ant.told.refusals))
    assert (len(ant.told.refusals), len(bee.told.refusals)) == (1, 1)
    assert "version" in bee.told.refusals[0][1]


async def test_a_message_before_hello_is_refused(ant: Node, federation: dict[str, Credentials]) -> None:
    ping = encode_frame(encode(links.Ping()), MAX_BYTES)
    answer = await answer_to(ant, ping, context=client_context(federation["cat"]))
    assert frames(answer) == [links.Refusal("protocol", "it sent PING instead of HELLO")]
    await ant.told.until_refused("instead of HELLO")


async def test_an_invalid_blob_request_is_refused(ant: Node, federation: dict[str, Credentials]) -> None:
    bad = encode_frame(
        msgspec.msgpack.encode({"type": "pull", "digest": "../../etc/passwd", "offset": 0}), 999
    )
    answer = await answer_to(ant, bad, context=client_context(federation["cat"], [BLOB_ALPN]))
    assert "cannot be understood" in refusal_in(answer).reason
    await ant.told.until_refused("a blob request of")


async def test_silent_connections_are_limited_per_address_and_end_at_the_deadline(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, max_pending_per_address=3, hello_seconds=0.3)
    node = await world.start(federation["ant"], settings=settings)
    silent = [await asyncio.open_connection("127.0.0.1", node.mesh.port) for _ in range(4)]
    try:
        await node.told.until_refused("More than 3 connections from this address")
        await node.told.until_refused("did not answer in time")
    finally:
        for _, writer in silent:
            writer.transport.abort()
    bee = await world.start(federation["bee"], [node.address])
    await bee.told.until(lambda told: told.names == {"ant"})


async def silent_from(node: Node, *hosts: str) -> list[asyncio.StreamWriter]:
    """Open a silent connection from each of *hosts*, which are loopback addresses."""
    opened = []
    for host in hosts:
        _, writer = await asyncio.open_connection("127.0.0.1", node.mesh.port, local_addr=(host, 0))
        opened.append(writer)
    return opened


def abort(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()


async def test_silent_connections_from_many_addresses_do_not_keep_a_node_out(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, max_pending=4, hello_seconds=60.0, handshake_seconds=60.0)
    node = await world.start(federation["ant"], settings=settings)
    silent = await silent_from(node, *(f"127.0.0.{2 + number % 5}" for number in range(12)))
    try:
        await node.told.until_refused("More than 4 connections have not identified")
        bee = await world.start(federation["bee"], [node.address])
        await bee.told.until(lambda told: told.names == {"ant"})
        assert len(node.mesh._acceptor._pending._pending) <= settings.max_pending
    finally:
        abort(silent)


async def test_strangers_do_not_displace_connections_from_the_address_of_a_known_node(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    settings = msgspec.structs.replace(FAST, max_pending=2, hello_seconds=60.0, handshake_seconds=60.0)
    node = await world.start(federation["ant"], settings=settings)
    bee = await world.start(federation["bee"], [node.address])
    await bee.told.until(lambda told: told.names == {"ant"})
    known = await silent_from(node, "127.0.0.1", "127.0.0.1")
    strangers = await silent_from(node, *["127.0.0.2"] * 6)
    try:
        await until(lambda: sum(not place.is_known for place in node.mesh._acceptor._pending._pending) == 2)
        assert sum(place.is_known for place in node.mesh._acceptor._pending._pending) == 2
    finally:
        abort(known + strangers)


async def test_a_silent_connection_is_closed_soon(world: Lab, federation: dict[str, Credentials]) -> None:
    settings = msgspec.structs.replace(FAST, hello_seconds=0.05, handshake_seconds=60.0)
    node = await world.start(federation["ant"], settings=settings)
    silent = await silent_from(node, "127.0.0.1")
    try:
        assert "did not answer in time" in await node.told.until_refused("sent nothing for 0.05 s")
    finally:
        abort(silent)


async def test_a_repeated_refusal_is_reported_once(ant: Node, federation: dict[str, Credentials]) -> None:
    ping = encode_frame(encode(links.Ping()), MAX_BYTES)
    for _ in range(3):
        await answer_to(ant, ping, context=client_context(federation["cat"]))
    await ant.told.until_refused("instead of HELLO")
    assert len(ant.told.refusals) == 1


@pytest.mark.parametrize("role", ["operator", "observer"])
async def test_only_nodes_get_blobs(ant: Node, tmp_path: Path, role: str) -> None:
    guest = make_federation(tmp_path / "ca", "guest", role=role)["guest"]  # type: ignore[arg-type]
    request = encode_request(BlobRequest("0" * 64, 0))
    answer = await answer_to(
        ant, request, context=client_context(guest, [BLOB_ALPN]), until=b"role " + role.encode()
    )
    assert refusal_in(answer) == BlobRefusal("role", f"the certificate of guest has the role {role}")


async def test_transfers_beyond_the_limit_of_a_holder_are_refused_as_busy(
    world: Lab, federation: dict[str, Credentials]
) -> None:
    node = await world.start(federation["ant"], settings=msgspec.structs.replace(FAST, max_serving=0))
    request = encode_request(BlobRequest("0" * 64, 0))
    answer = await answer_to(
        node, request, context=client_context(federation["bee"], [BLOB_ALPN]), until=b"under way"
    )
    assert refusal_in(answer) == BlobRefusal("busy", "0 transfers are under way")
