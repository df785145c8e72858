from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk import probing as probes
from p2pfl.net.bulk.probing import LargePacketsLostError, WayMeasurement, probe, probing
from p2pfl.net.transport.addresses import parse_address
from p2pfl.net.transport.stream import FrameStream, StreamProtocol
from p2pfl.net.transport.tls import BLOB_ALPN, secure, server_context
from p2pfl.wire.blobs import (
    MAX_BULK_FRAME_BYTES,
    BlobRefusal,
    LinkedNode,
    MeasureReply,
    MeasureRequest,
    decode_request,
    encode_length,
    encode_refusal,
    encode_reply,
)
from tests.support.federation import make_federation
from tests.support.meshes import FAST, lab


async def test_a_probe_returns_the_identity_and_makes_no_link(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    async with lab(tmp_path) as opened:
        ant = await opened.start(federation["ant"])
        who = await probe(parse_address(ant.address), federation["bee"], FAST)
        assert (who.name, who.node_id) == ("ant", federation["ant"].node_id)
        assert ant.told.history == []
        assert ant.told.refusals == []


async def test_an_operator_can_probe_too(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    operator = make_federation(tmp_path / "ca", "olga", role="operator")["olga"]
    async with lab(tmp_path) as opened:
        node = await opened.start(ant)
        assert (await probe(parse_address(node.address), operator, FAST)).name == "ant"


async def test_a_probe_detects_a_listener_that_refuses_this_device(tmp_path: Path) -> None:
    """With TLS 1.3 the handshake alone succeeds: the refusal arrives with the first answer."""
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    impostor = make_federation(tmp_path / "other", "bee")["bee"]
    trusting = type(impostor)(**{**vars(impostor), "authority_path": ant.authority_path})
    async with lab(tmp_path) as opened:
        node = await opened.start(ant)
        with pytest.raises(HandshakeRefused, match="refused this device"):
            await probe(parse_address(node.address), trusting, FAST)


async def test_a_probe_refuses_a_node_of_another_federation(tmp_path: Path) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    foreign = make_federation(tmp_path / "other", "bee")["bee"]
    async with lab(tmp_path) as opened:
        node = await opened.start(ant)
        with pytest.raises(HandshakeRefused, match="signed by another CA"):
            await probe(parse_address(node.address), foreign, FAST)


async def test_a_probe_reports_a_port_without_a_listener(tmp_path: Path, unused_port: int) -> None:
    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    with pytest.raises(NetworkError, match="nothing listens there"):
        await probe(parse_address(f"127.0.0.1:{unused_port}"), ant, FAST)


async def test_a_probe_reports_another_program_on_the_port(tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        await writer.drain()
        writer.close()

    ant = make_federation(tmp_path / "ca", "ant")["ant"]
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HandshakeRefused, match="not a p2pfl node"):
            await probe(parse_address(f"127.0.0.1:{port}"), ant, FAST)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A loopback port that is bound during the test and has no listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_way_is_measured_without_a_link(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee", "cat")
    async with lab(tmp_path) as opened:
        ant = await opened.start(federation["ant"])
        bee = await opened.start(federation["bee"], [ant.address])
        await ant.told.until(lambda told: told.names == {"bee"})
        async with probing(parse_address(ant.address), federation["cat"], FAST) as connection:
            found = await connection.measure()
        assert ant.told.names == {"bee"}
    assert found.about.links == (LinkedNode(bee.id, "bee"),)
    assert found.about.software == "0.1.0"
    assert 0 < found.delay < 5
    assert abs(found.clock_offset) < 5
    assert found.rate > 0
    assert found.segment_bytes > 0 or not hasattr(socket, "TCP_MAXSEG")


Behaviour = Callable[[FrameStream, MeasureRequest], Awaitable[None]]


Two = dict[str, Credentials]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return make_federation(tmp_path / "ca", "ant", "bee")


async def measured(two: Two, behave: Behaviour) -> WayMeasurement:
    """Measure the way to a node that answers as *behave* does."""
    ant = two["ant"]
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)

        async def serve() -> None:
            accepted, _ = await loop.sock_accept(listening)
            transport, protocol = await secure(
                accepted, StreamProtocol, server_context(ant, [BLOB_ALPN]), ant, dialing=False, seconds=5.0
            )
            stream = FrameStream(transport, protocol, MAX_BULK_FRAME_BYTES)
            try:
                while (body := await stream.next_body()) is not None:
                    request = decode_request(body)
                    assert isinstance(request, MeasureRequest)
                    await behave(stream, request)
            except OSError:
                pass
            finally:
                stream.abort()

        serving = asyncio.create_task(serve())
        try:
            address = parse_address(f"127.0.0.1:{listening.getsockname()[1]}")
            async with probing(address, two["bee"], FAST) as connection:
                return await connection.measure()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def reply(ahead: float = 0.0) -> MeasureReply:
    return MeasureReply(time.time() + ahead, "1.0", ())


async def test_a_clock_that_is_ahead_is_seen(two: Two) -> None:
    async def behave(stream: FrameStream, request: MeasureRequest) -> None:
        await stream.write(encode_reply(reply(3600.0), request.size) + bytes(request.size))

    assert (await measured(two, behave)).clock_offset == pytest.approx(3600.0, abs=5)


async def test_lost_large_packets_are_told_from_a_busy_node(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "STEP_SECONDS", 0.2)

    async def only_short(stream: FrameStream, request: MeasureRequest) -> None:
        if not request.padding:
            await stream.write(encode_reply(reply(), request.size) + bytes(request.size))

    async def only_short_answers(stream: FrameStream, request: MeasureRequest) -> None:
        if not request.size:
            await stream.write(encode_reply(reply(), 0))

    async def nothing(stream: FrameStream, request: MeasureRequest) -> None:
        """A busy node."""

    for behave in (only_short, only_short_answers):
        with pytest.raises(LargePacketsLostError, match="those that fill a packet are not"):
            await measured(two, behave)
    with pytest.raises(NetworkError, match="it is busy"):
        await measured(two, nothing)


async def test_a_node_that_does_not_measure_is_told_so(two: Two) -> None:
    async def refuse(stream: FrameStream, _: MeasureRequest) -> None:
        await stream.write(encode_refusal(BlobRefusal("protocol", "no")))

    async def close(stream: FrameStream, _: MeasureRequest) -> None:
        await stream.finish()

    async def too_much(stream: FrameStream, _: MeasureRequest) -> None:
        await stream.write(encode_length(2**40))

    async def nonsense(stream: FrameStream, _: MeasureRequest) -> None:
        await stream.write(encode_length(9) + encode_length(5) + b"x")

    for behave, said in (
        (refuse, "older p2pfl, or is busy"),
        (close, "it closed the connection: it runs an older p2pfl"),
        (too_much, "older p2pfl, or is busy"),
        (nonsense, "something that is no measurement"),
    ):
        with pytest.raises(NetworkError, match=said):
            await measured(two, behave)
