"""Whoever holds a certificate may say anything: each harms its own link at most, and the node serves on.

One node without a run serves all these tests; what it prints and keeps is looked at too.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator

import psutil
import pytest

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.names import Role
from p2pfl.messages import Ask, Decline, Facts, Message, Offer, Records, Report, Status, Wish
from p2pfl.net.budget import BUDGETS, ROUNDS
from p2pfl.net.tls import BLOB_ALPN, CONTROL_ALPN, OBSERVE_ALPN, client_context
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Bye, Hello, Peers, Ping, Pong, Ready, Refusal, Welcome
from tests.support.hostile import LINK_FRAMES, MESSAGES, Client, People, framed, malformed
from tests.support.processes import LIGHT, Process, address_of, until

pytestmark = pytest.mark.processes

MAX_GROWTH_BYTES = 64 * 2**20
"""Of the node, over all these tests together: its own caches, and what the system does not take back."""

MAX_OUTPUT_BYTES = 512 * 1024
"""Printed by it in all: a few lines for each test."""

ALL: list[ControlFrame] = [*MESSAGES, *LINK_FRAMES]
SOME_LIMITED = [Offer, Facts, Decline, Wish, Ask, Records, Report, Peers]


def name_of(frame: ControlFrame) -> str:
    return type(frame).__name__


class Target:
    """The node, and honest peers that look whether it still serves them."""

    def __init__(self, process: Process, people: People) -> None:
        self.process = process
        self.people = people
        self.port = int(address_of(process).rpartition(":")[2])
        self.memory = psutil.Process(process.pid)

    async def serves(self) -> None:
        """Link an honest peer, and hear the node's STATUS."""
        async with Client.linked(self.port, self.people.new()) as honest:
            assert isinstance(await honest.hear(Status), Status)
        assert not self.process.has_ended, self.process.output

    async def said(self, who: Credentials, words: str) -> list[str]:
        """Wait until the node has said *words* of *who*; return all that it said with these words of it."""

        def find() -> list[str]:
            told = [f"{one.address} {one.reason}" for one in self.process.all(events.PeerRefused)]
            told += [f"{one.name} {one.reason}" for one in self.process.all(events.PeerLost)]
            return [text for text in told if who.name in text and words in text]

        return await until(find, f"{words!r} of {who.name}", self.process)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    create_authority(folder / "certs", "fleet")
    ada = issue(folder / "certs", "ada")
    places = (f"--certs={ada}", f"--data-dir={folder / 'ada'}", "--listen=127.0.0.1:0", "--min-nodes=200")
    process = Process("ada", folder, 0, (*LIGHT, *places))
    try:
        asyncio.run(_ready(process))
        made = Target(process, People(folder / "certs"))
        before = made.memory.memory_info().rss
        yield made
        assert not process.has_ended, process.output
        assert made.memory.memory_info().rss - before < MAX_GROWTH_BYTES
        assert len(process.output) < MAX_OUTPUT_BYTES
        assert "Traceback" not in process.output
        log = (folder / "ada" / "logs").glob("*")
        assert "Traceback" not in "".join(path.read_text(encoding="utf-8") for path in log)
    finally:
        process.end()


async def _ready(process: Process) -> None:
    await process.until(events.WorkerReady)


# --- malformed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [frame for frame in ALL if len(malformed(frame)) > 1], ids=name_of)
async def test_a_malformed_frame_ends_the_link_it_came_on(target: Target, frame: ControlFrame) -> None:
    variants = malformed(frame)
    for data in (variants[0], variants[1], variants[-1]):
        async with Client.linked(target.port, target.people.new()) as offender:
            await offender.say(data)
            refusal = await offender.hear()
            assert isinstance(refusal, Refusal)
            assert refusal.kind == "protocol"
    await target.serves()


@pytest.mark.parametrize("frame", ALL, ids=name_of)
async def test_a_frame_where_hello_was_due_ends_the_connection(target: Target, frame: ControlFrame) -> None:
    if isinstance(frame, Hello):
        pytest.skip("it is due")
    async with Client.connected(target.port, target.people.new()) as offender:
        await offender.say(framed(frame))
        assert isinstance(await offender.hear(), Refusal | None)
    await target.serves()


# --- out of place -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [*MESSAGES, LINK_FRAMES[6]], ids=name_of)
async def test_a_message_of_a_run_that_nobody_is_in_changes_nothing(
    target: Target, frame: Message | Peers
) -> None:
    async with Client.linked(target.port, target.people.new()) as offender:
        await offender.say(framed(frame, Ping()))
        assert isinstance(await offender.hear(Pong), Pong)
    await target.serves()


@pytest.mark.parametrize("frame", LINK_FRAMES[:3], ids=name_of)
async def test_a_second_handshake_on_a_link_ends_it(target: Target, frame: Hello | Welcome | Ready) -> None:
    async with Client.linked(target.port, target.people.new()) as offender:
        await offender.say(framed(frame))
        refusal = await offender.hear()
        assert isinstance(refusal, Refusal)
        assert f"a second {name_of(frame).upper()} came" in refusal.reason
    await target.serves()


@pytest.mark.parametrize("frame", [LINK_FRAMES[3], Bye("it is over")], ids=name_of)
async def test_a_link_ends_politely_at_its_peers_wish(target: Target, frame: Refusal | Bye) -> None:
    async with Client.linked(target.port, target.people.new()) as offender:
        await offender.say(framed(frame))
        assert await offender.hear() is None
    await target.serves()


@pytest.mark.parametrize("kind", ["version", "role", "self", "twin", "duplicate", "full", "wrong-node"])
async def test_a_refusal_as_first_word_is_only_the_end_of_its_connection(target: Target, kind: str) -> None:
    async with Client.connected(target.port, target.people.new()) as offender:
        await offender.say(framed(Refusal(kind, "so it is")))  # type: ignore[arg-type]  # it is one of these
        assert await offender.hear() is None
    await target.serves()


# --- floods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [frame for frame in ALL if type(frame) in SOME_LIMITED or isinstance(frame, Status | Ping)],
    ids=name_of,
)
async def test_who_floods_is_named_once_and_turned_away(target: Target, frame: ControlFrame) -> None:
    offender = target.people.new()
    budget = BUDGETS.get(type(frame), ROUNDS)
    before = target.memory.memory_info().rss
    async with Client.linked(target.port, offender) as client:
        await client.flood(frame, int(4 * budget.burst))
        await client.hear()
    kind = name_of(frame).upper()
    assert len(await target.said(offender, f"it sends more {kind} than any node needs")) == 1
    await target.said(offender, f"it sent {kind} without end")
    async with Client.connected(target.port, offender) as again:
        await again.say(framed(Hello("0.1.0", "1" * 32, 1, "5" * 32, 1, (), 1, 1, "", 0)))
        refusal = await again.hear()
        assert isinstance(refusal, Refusal)
        assert "it is turned away for 30 s" in refusal.reason
    await target.serves()
    assert target.memory.memory_info().rss - before < MAX_GROWTH_BYTES // 2


async def test_who_links_without_end_is_turned_away(target: Target) -> None:
    offender = target.people.new()
    refusal: ControlFrame | None = None
    for order in range(10**6, 10**6 + 200):
        async with Client.connected(target.port, offender) as client:
            await client.say(framed(Hello("0.1.0", "1" * 32, 1, "5" * 32, 1, (), 1, 1, "", 0)))
            refusal = await client.hear(Welcome)
            if isinstance(refusal, Refusal):
                if refusal.kind == "duplicate":  # the node has not heard of the last end yet
                    continue
                break
            await client.say(framed(Ready(order)))
            await client.hear(Status)
    assert isinstance(refusal, Refusal)
    assert "new links without end" in refusal.reason
    await target.serves()


# --- other certificates, and none ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "observer"])
@pytest.mark.parametrize("frame", ALL, ids=name_of)
async def test_a_person_says_nothing_among_nodes(target: Target, role: Role, frame: ControlFrame) -> None:
    async with Client.connected(target.port, people_of(target, role)) as offender:
        await offender.say(framed(frame))
        assert isinstance(await offender.hear(), Refusal | None)
    assert not target.process.has_ended


@pytest.mark.parametrize("role", ["operator", "observer", "node"])
@pytest.mark.parametrize("alpn", [BLOB_ALPN, OBSERVE_ALPN])
async def test_garbage_on_other_connections_ends_them(target: Target, role: Role, alpn: str) -> None:
    for data in (os.urandom(100_000), b"\xff" * 8, framed(*MESSAGES)):
        await read_out(target.port, data, client_context(people_of(target, role), [alpn]))
    await target.serves()


async def test_without_a_certificate_nothing_is_heard(target: Target) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([CONTROL_ALPN])
    await read_out(target.port, framed(*ALL), context)
    await read_out(target.port, framed(*ALL), None)
    await target.serves()


_people: dict[Role, Credentials] = {}


def people_of(target: Target, role: Role) -> Credentials:
    """Return the certificate of one person of that role."""
    if role not in _people:
        _people[role] = target.people.new(role)
    return _people[role]


async def read_out(port: int, data: bytes, context: ssl.SSLContext | None) -> None:
    """Say *data*, and read until the node has closed."""
    try:
        async with asyncio.timeout(30.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(data)
                while await reader.read(65536):
                    pass
            finally:
                writer.transport.abort()
    except OSError:  # refused, or reset: it did not care to read all
        pass
