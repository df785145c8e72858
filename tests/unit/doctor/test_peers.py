from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

import msgspec
import pytest

from p2pfl.doctor.finding import Finding
from p2pfl.doctor.peers import ask, check_peers, judge, watch
from p2pfl.doctor.subject import Reached, Subject
from p2pfl.errors import HandshakeRefused, NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.exclusions import STATEMENTS_FILE
from p2pfl.identity.known_peers import KnownPeer, save_known_peers
from p2pfl.identity.names import Role
from p2pfl.identity.signatories import load_signing
from p2pfl.net.transport.addresses import Address, parse_address
from tests.support.federation import make_federation
from tests.support.meshes import FAST, lab
from tests.support.observed import observed

PI = Address("pi.local", 9001)


async def failing(
    monkeypatch: pytest.MonkeyPatch, error: NetworkError, cause: Exception | None = None
) -> Finding:
    """Return the finding for an address where a probe fails with *error*."""

    async def probe(*_: object) -> None:
        raise error from cause

    monkeypatch.setattr("p2pfl.doctor.peers.probe", probe)
    answer = await ask(PI, None, FAST)  # type: ignore[arg-type]  # the probe is made up
    assert isinstance(answer, Finding)
    assert answer.level == "FAIL"
    return answer


async def test_each_way_to_fail_has_its_own_symptom(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = await failing(monkeypatch, NetworkError("it did not answer within 5 s"), TimeoutError())
    assert "Packets to it vanish" in lost.advice
    assert "ping pi.local" in lost.commands
    refused = await failing(monkeypatch, NetworkError("nothing listens there"), ConnectionRefusedError())
    assert "The device is on and refuses: start its node with --listen 9001" in refused.advice
    no_route = OSError(errno.EHOSTUNREACH, "No route to host")
    unreachable = await failing(monkeypatch, NetworkError("there is no way to it"), no_route)
    assert "No network leads there, or a firewall on the way rejects it" in unreachable.advice
    name = await failing(monkeypatch, NetworkError("its name cannot be resolved: check its spelling"))
    assert name.commands[0] == "getent hosts pi.local"
    other = await failing(monkeypatch, NetworkError("it cannot be reached (Odd)"), OSError(1, "Odd"))
    assert (other.advice, other.commands) == ("", ())
    for finding in (lost, refused, unreachable):
        assert any("ufw allow 9001/tcp" in command for command in finding.commands)


async def test_tls_that_gets_no_answer_suggests_lost_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = await failing(
        monkeypatch, HandshakeRefused("The other side did not answer in time: it is busy.")
    )
    assert "large packets that are lost on the way, as with a VPN (MTU)" in silent.advice
    foreign = await failing(monkeypatch, HandshakeRefused("its certificate was signed by another CA"))
    assert (foreign.text, foreign.advice) == ("pi.local:9001: its certificate was signed by another CA", "")


async def judged(address: str, credentials: Credentials, own_port: int | None = None) -> Finding:
    answer = await ask(parse_address(address), credentials, FAST)
    assert isinstance(answer, Reached)
    return await judge(answer, credentials, FAST, own_port=own_port)


async def test_peers_are_named_and_refusals_explained(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    foreign = make_federation(tmp_path / "other", "fox")["fox"]
    ant = federation["ant"]
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        fox = await opened.start(foreign)
        own = parse_address(bee.address).port
        reached = await judged(bee.address, ant)
        oneself = await judged(bee.address, federation["bee"], own_port=own)
        mixed_up = await judged(bee.address, federation["bee"], own_port=own + 1)
        double = await judged(bee.address, federation["bee"])
        refused = await ask(parse_address(fox.address), ant, FAST)
    away = await ask(parse_address(bee.address), ant, FAST)
    assert reached.level == "ok"
    assert f"is bee ({bee.id[:7]})" in reached.text
    assert (oneself.level, oneself.text) == ("ok", f"{bee.address} is this device itself")
    assert mixed_up.level == "warn"
    assert (
        f"{bee.address} answers with this device's certificate (bee), and this device does not"
        in mixed_up.text
    )
    assert double.level == "FAIL"
    assert f"{bee.address} is a node that runs with this device's certificate (bee)" in double.text
    assert isinstance(refused, Finding)
    assert "signed by another CA" in refused.text
    assert isinstance(away, Finding)
    assert "nothing listens there" in away.text


@pytest.mark.parametrize(
    ("role", "may"), [("observer", "may watch it"), ("operator", "may watch and command it")]
)
async def test_a_certificate_for_people_is_tried_as_what_it_is_for(
    tmp_path: Path, role: Role, may: str
) -> None:
    async with observed(tmp_path) as node:
        (here,), eve, *_ = node.target("eve", role)
        answer = await watch(here, eve, FAST)
    assert isinstance(answer, Finding)
    assert (answer.level, answer.text) == (
        "ok",
        f"{here} is ada ({node.credentials.node_id[:7]}), and this certificate {may}",
    )
    away = await watch(here, eve, FAST)
    assert isinstance(away, Finding)
    assert (away.level, "nothing listens there" in away.text) == ("FAIL", True)
    assert "The device is on and refuses" in away.advice
    foreign = make_federation(tmp_path / "other", "fox")["fox"]
    async with lab(tmp_path) as opened:
        fox = await opened.start(foreign)
        refused = await watch(parse_address(fox.address), eve, FAST)
    assert isinstance(refused, Finding)
    assert "signed by another CA" in refused.text


async def test_a_banned_node_is_marked_with_who_when_and_why(tmp_path: Path) -> None:
    ant, bee = make_federation(tmp_path / "ca", "ant", "bee").values()
    statement = load_signing(tmp_path / "ca").sign("ban", bee.node_id, "bee", reason="it was stolen")
    (ant.directory / STATEMENTS_FILE).write_bytes(msgspec.json.encode([statement]))
    save_known_peers(ant.directory, [KnownPeer(bee.node_id, "bee", ("192.0.2.7:9000",), time.time())])
    async with lab(tmp_path) as opened:
        node = await opened.start(bee)
        given, met = (
            Subject(tmp_path, settings=FAST, credentials=ant, addresses=addresses)
            for addresses in ((parse_address(node.address),), ())
        )
        [answers] = [finding async for finding in check_peers(given)]
        [known] = [finding async for finding in check_peers(met)]
    assert given.reached == []
    since = f"is banned since {time.strftime('%Y-%m-%d', time.gmtime(statement.at))}"
    for finding, begin, end in (
        (answers, f"{node.address} is bee ({bee.node_id[:7]})", "there is no link with it"),
        (known, "bee, which this device met before, ", "it is not asked"),
    ):
        assert finding.level == "warn"
        assert finding.text.startswith(begin)
        assert since in finding.text
        assert finding.text.endswith(f"by the CA: it was stolen: {end}")
        assert "p2pfl unban" in finding.advice


async def test_without_addresses_the_nodes_are_asked_that_this_device_met(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee", "cat", "dog")
    ant = federation["ant"]
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        cat = await opened.start(federation["cat"])
        await opened.stop(cat)
        known = [
            KnownPeer(bee.id, "bee", (bee.address, "192.0.2.7:9000"), time.time()),
            KnownPeer(cat.id, "cat", (cat.address,), time.time() - 60),
            KnownPeer(federation["dog"].node_id, "dog", ("192.0.2.8:9000",), 1.0),
        ]
        save_known_peers(ant.directory, known)
        subject = Subject(tmp_path, settings=FAST, credentials=ant)
        found = [finding async for finding in check_peers(subject)]
    assert [finding.level for finding in found] == ["ok", "warn"], "dog was met long ago"
    assert f"{bee.address} is bee" in found[0].text
    assert found[1].text.startswith(f"cat, which this device met before: {cat.address} is not reached")
    assert [reached.identity.name for reached in subject.reached] == ["bee"]


async def test_the_report_keeps_the_order_and_remembers_the_others_that_answered(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = Address("127.0.0.1", bound.getsockname()[1])
        async with lab(tmp_path) as opened:
            places = [
                parse_address((await opened.start(federation[name])).address) for name in ("ant", "bee")
            ]
            subject = Subject(
                tmp_path, addresses=(nobody, *places), settings=FAST, credentials=federation["ant"]
            )
            levels = [finding.level async for finding in check_peers(subject)]
    assert levels == ["FAIL", "FAIL", "ok"]
    assert [one.identity.name for one in subject.reached] == ["bee"]


async def test_without_a_certificate_nobody_is_asked(tmp_path: Path) -> None:
    [finding] = [one async for one in check_peers(Subject(tmp_path, addresses=(PI,)))]
    assert (finding.level, "takes a certificate" in finding.text) == ("warn", True)
    assert [one async for one in check_peers(Subject(tmp_path))] == []
