from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.net.bulk.dialler import DialFailedError, probe
from p2pfl.net.transport.addresses import Address, parse_address
from tests.support.federation import make_federation
from tests.support.meshes import FAST, lab

PLACES = [Address("10.0.0.3", 9003), Address("pi.local", 9004), Address("fd00::3", 9003)]
SILENT = NetworkError("it did not answer within 5 s: is the device on, and does its firewall let others in?")
CLOSED = NetworkError("nothing listens there: is the node running, and on this port?")
OTHER = HandshakeRefused("node abc was expected at 10.0.0.3:9003, but node pi answered")


def test_the_error_names_the_first_addresses_without_advice() -> None:
    told = DialFailedError(PLACES, [SILENT, CLOSED, CLOSED])
    assert str(told) == (
        "cannot be dialled at 10.0.0.3:9003 and pi.local:9004 "
        "(it did not answer within 5 s; nothing listens there)"
    )
    assert told.port == 9003
    assert not told.is_answered


def test_equal_reasons_of_two_addresses_appear_once() -> None:
    assert str(DialFailedError(PLACES[:2], [SILENT, SILENT])).count("did not answer") == 1


def test_an_answer_rules_out_a_firewall() -> None:
    told = DialFailedError(PLACES[:1], [OTHER])
    assert told.is_answered
    assert str(told) == f"cannot be dialled at 10.0.0.3:9003 ({OTHER})"


def test_without_an_address_the_error_says_so() -> None:
    assert str(DialFailedError([], [])) == "has no known address to dial"


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
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
