"""Certificate holders that send anything: each can harm only its own link, and the node keeps serving.

Most tests share a node without a run, the others one that is a member of a run. The tests also limit the output
and the memory of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import msgspec
import psutil
import pytest

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.names import Role
from p2pfl.identity.signatures import signer_of
from p2pfl.messages import (
    Accepted,
    Ballot,
    Commit,
    Decline,
    Genesis,
    Message,
    Promise,
    RecordBlobs,
    Records,
    RecordsRequest,
    RosterEntry,
    Status,
    record_digest,
)
from p2pfl.net.dialling.notices import DOUBT_SECONDS
from p2pfl.net.links.rate_limits import DEFAULT_LIMIT, FRAME_LIMITS
from p2pfl.net.transport.tls import BLOB_ALPN, CONTROL_ALPN, OBSERVE_ALPN, client_context
from p2pfl.proofs import CastVote, Claim, sign_claim, sign_vote
from p2pfl.schema import layout_of
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Bye, Hello, LinkFrame, Ping, Pong, Ready, Refusal, Welcome
from tests.support.core import status
from tests.support.hostile import (
    LINK_FRAMES,
    MESSAGES,
    VOTES,
    Client,
    People,
    framed,
    hello_of,
    malformed,
    member_of,
    signed_message,
)
from tests.support.light_worker import SCHEMA
from tests.support.processes import LIGHT, Process, address_of, until
from tests.support.records import AGREEMENT, Chain, digest, genesis, node, signed

DIGITS_EXAMPLES = 1437
"""Training examples of the digits task, which the real node has."""

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("hostile members")]

MAX_GROWTH_BYTES = 64 * 2**20
"""Memory growth of the node over all tests: its caches, and what is not returned to the system."""

MAX_OUTPUT_BYTES = 512 * 1024
"""Total output of the node: a few lines for each test."""

ALL: list[ControlFrame] = [*MESSAGES, *LINK_FRAMES]
"""One frame of every kind."""


def name_of(frame: ControlFrame) -> str:
    return type(frame).__name__


class Target:
    """The node, and honest peers that check whether it still serves them."""

    def __init__(self, process: Process, people: People) -> None:
        self.process = process
        self.people = people
        self.port = int(address_of(process).rpartition(":")[2])
        self.node_id = process.all(events.Started)[0].node
        self.memory = psutil.Process(process.pid)

    async def serves(self) -> None:
        """Link an honest peer, and receive the node's STATUS."""
        async with Client.linked(self.port, self.people.new()) as honest:
            assert isinstance(await honest.hear(Status), Status)
        assert not self.process.has_ended, self.process.output

    async def claim(self) -> Claim:
        """Return the claim of the node about its journal."""
        asking = self.people.new()
        async with Client.connected(self.port, asking) as client:
            return (await client.greet(asking)).claim

    async def said(self, who: Credentials, words: str) -> list[str]:
        """Wait until the node has reported *words* about *who*; return all such reports."""

        def find() -> list[str]:
            told = [f"{one.address} {one.reason}" for one in self.process.all(events.PeerRefused)]
            told += [f"{one.name} {one.reason}" for one in self.process.all(events.PeerLost)]
            told += [one.text for one in self.process.all(events.Notice)]
            return [text for text in told if who.name in text and words in text]

        return await until(find, f"{words!r} of {who.name}", self.process)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with _target(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@contextlib.contextmanager
def _target(folder: Path) -> Iterator[Target]:
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


@pytest.mark.parametrize("frame", [frame for frame in ALL if not isinstance(frame, Hello)], ids=name_of)
async def test_a_frame_instead_of_hello_ends_the_connection(target: Target, frame: ControlFrame) -> None:
    async with Client.connected(target.port, target.people.new()) as offender:
        await offender.say(framed(frame))
        assert isinstance(await offender.hear(), Refusal | None)
    await target.serves()


# --- out of place -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [*MESSAGES, *LINK_FRAMES[6:9]], ids=name_of)
async def test_a_message_of_an_unknown_run_changes_nothing(target: Target, frame: ControlFrame) -> None:
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
async def test_a_link_ends_gracefully_on_bye_or_refusal(target: Target, frame: Refusal | Bye) -> None:
    async with Client.linked(target.port, target.people.new()) as offender:
        await offender.say(framed(frame))
        assert await offender.hear() is None
    await target.serves()


@pytest.mark.parametrize("kind", get_args(get_type_hints(Refusal)["kind"]))
async def test_a_refusal_as_first_frame_only_ends_its_connection(target: Target, kind: str) -> None:
    async with Client.connected(target.port, target.people.new()) as offender:
        await offender.say(framed(Refusal(kind, "so it is")))  # type: ignore[arg-type]  # it is one of these
        assert await offender.hear() is None
    await target.serves()


@pytest.mark.parametrize("proof", ["none", "of another", "replayed", "changed", "a vote of another"])
@pytest.mark.parametrize("is_late", [False, True], ids=["first", "after WELCOME"])
async def test_without_proof_of_a_copied_journal_the_node_continues(
    target: Target, proof: str, is_late: bool
) -> None:
    offender = target.people.new()
    claim = await target.claim()
    proofs = {
        "none": Refusal("cloned", "it is a copy"),
        "of another": Refusal(
            "cloned",
            "it is a copy",
            sign_claim(signer_of(offender), member_of(offender), 99, claim.nonce, 99),
        ),
        "replayed": Refusal("cloned", "it is a copy", claim),
        "changed": Refusal(
            "cloned", "it is a copy", msgspec.structs.replace(claim, incarnation=99, votes=99)
        ),
        "a vote of another": Refusal("cloned", "it is a copy", cast=_forged_vote(target, claim)),
    }
    for pause in (DOUBT_SECONDS, 0.0):  # the first one might be of a claim that is only late
        async with Client.connected(target.port, offender) as client:
            if is_late:
                await client.greet(offender)
            await client.say(framed(proofs[proof]))
            assert await client.hear() is None
        await asyncio.sleep(pause)
    await target.said(offender, "It has not proved that, so this node continues")
    await target.serves()


def _forged_vote(target: Target, claim: Claim) -> CastVote:
    """Return a forged vote of the target with a higher number than any it has cast."""
    vote = signed("ben", digest("run"), 1, Ballot(1, node("ben")), votes=99)
    forged = msgspec.structs.replace(vote, node=target.node_id, journal=claim.journal, key=claim.key)
    return CastVote(digest("run"), 1, Ballot(1, node("ben")), "", forged)


# --- floods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [frame for frame in ALL if type(frame) in FRAME_LIMITS or isinstance(frame, Status | Ping)],
    ids=name_of,
)
async def test_a_node_that_floods_is_named_once_and_banned(target: Target, frame: ControlFrame) -> None:
    offender = target.people.new()
    limit = FRAME_LIMITS.get(type(frame), DEFAULT_LIMIT)
    before = target.memory.memory_info().rss
    async with Client.linked(target.port, offender) as client:
        await client.flood(frame, int(4 * limit.burst))
        await client.hear()
    kind = name_of(frame).upper()
    assert len(await target.said(offender, f"it sends more {kind} than any node needs")) == 1
    await target.said(offender, f"it sent too many {kind}")
    async with Client.connected(target.port, offender) as again:
        await again.say(framed(hello_of(offender)))
        refusal = await again.hear()
        assert isinstance(refusal, Refusal)
        assert "it is banned for 30 s" in refusal.reason
    await target.serves()
    assert target.memory.memory_info().rss - before < MAX_GROWTH_BYTES // 2


async def test_a_node_with_too_many_new_links_is_banned(target: Target) -> None:
    offender = target.people.new()
    refusal: ControlFrame | None = None
    for order in range(10**6, 10**6 + 200):
        async with Client.connected(target.port, offender) as client:
            await client.say(framed(hello_of(offender)))
            refusal = await client.hear(Welcome)
            if isinstance(refusal, Refusal):
                if refusal.kind == "duplicate":  # the node does not know yet that the last link has ended
                    continue
                break
            await client.say(framed(Ready(order)))
            await client.hear(Status)
    assert isinstance(refusal, Refusal)
    assert "too many new links" in refusal.reason
    await target.serves()


# --- in a run -----------------------------------------------------------------------------------------------


class Seats(NamedTuple):
    """A run of three clients, whose first round made the node of *target* a member."""

    target: Target
    members: tuple[Credentials, ...]
    genesis: Genesis
    commit: Commit

    @property
    def run(self) -> str:
        return record_digest(self.genesis)

    def forged(self, round_: int, previous: str) -> Commit:
        """Return a commit of *round_* with the acceptances of another round."""
        record = self.commit.record
        forged = msgspec.structs.replace(
            record, round=round_, previous=previous, blobs=RecordBlobs(digest("forged"))
        )
        return msgspec.structs.replace(self.commit, record=forged)


@pytest.fixture(scope="module")
def seats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seats]:
    with _target(tmp_path_factory.mktemp("seats")) as target:
        yield asyncio.run(_seated(target))


async def _seated(target: Target) -> Seats:
    members = tuple(target.people.new() for _ in range(3))
    roster = tuple(
        RosterEntry(one.node_id, member_of(one).journal, one.name, slot, 1)
        for slot, one in enumerate(members)
    )
    agreement = msgspec.structs.replace(AGREEMENT, examples=DIGITS_EXAMPLES)
    record_0 = msgspec.structs.replace(
        genesis(), roster=roster, layout=layout_of(SCHEMA), agreement=agreement
    )
    run, ballot = record_digest(record_0), Ballot(1, members[0].node_id)
    newcomer = RosterEntry(target.node_id, (await target.claim()).journal, "ada", 3, 1)
    record = Chain(record_0).commit(next_roster=(*roster, newcomer)).record
    record = msgspec.structs.replace(record, ballot=ballot)
    votes = tuple(
        sign_vote(signer_of(one), member_of(one), run, 1, ballot, record_digest(record), VOTES)
        for one in members
    )
    commit = Commit(record, ballot, votes)
    async with Client.linked(target.port, members[0]) as client:
        await client.say(framed(status(run=run, round=1, record=record_digest(record), holds=True)))
        assert isinstance(await client.hear(RecordsRequest), RecordsRequest)
        await client.say(framed(Records(run, record_0, (commit,))))
        await target.process.until(events.Committed)
    return Seats(target, members, record_0, commit)


@pytest.mark.parametrize("frame", MESSAGES, ids=name_of)
@pytest.mark.parametrize("is_member", [True, False], ids=["member", "stranger to the run"])
async def test_an_unexpected_message_of_the_nodes_own_run_ends_nothing(
    seats: Seats, frame: Message, is_member: bool
) -> None:
    target = seats.target
    offender = seats.members[1] if is_member else target.people.new()
    async with Client.linked(target.port, offender) as client:
        for round_ in (1, 2, 9):
            await client.say(framed(signed_message(offender, frame, seats.run, round_), Ping()))
            assert isinstance(await client.hear(Pong), Pong)
    await target.serves()


@pytest.mark.parametrize("is_record", [False, True], ids=["commit", "records"])
@pytest.mark.parametrize("which", ["another of the last round", "the next round", "the next of another"])
async def test_a_commit_with_the_acceptances_of_another_is_named_once_and_ends_nothing(
    seats: Seats, which: str, is_record: bool
) -> None:
    target, last, offender = seats.target, record_digest(seats.commit.record), seats.target.people.new()
    forged, words = {
        "another of the last round": (seats.forged(1, seats.run), "contradicts what is committed here"),
        "the next round": (seats.forged(2, last), "is not believed"),
        "the next of another": (seats.forged(2, digest("another")), "contradicts what is committed here"),
    }[which]
    frame = Records(seats.run, None, (forged,)) if is_record else forged
    async with Client.linked(target.port, offender) as client:
        await client.say(framed(frame, frame, Ping()))
        assert isinstance(await client.hear(Pong), Pong)
    await target.said(offender, words)
    await target.serves()
    assert sum(offender.name in notice.text for notice in target.process.all(events.Notice)) == 1
    assert not target.process.all(events.Ended)


async def test_votes_signed_by_another_node_do_not_count(seats: Seats) -> None:
    target, offender = seats.target, seats.members[2]
    async with Client.linked(target.port, offender) as client:
        for frame in MESSAGES:
            if isinstance(frame, Promise | Accepted):
                await client.say(framed(msgspec.structs.replace(frame, run=seats.run, round=2)))
        await client.say(framed(Ping()))
        assert isinstance(await client.hear(Pong), Pong)
    assert len(await target.said(offender, "a vote it has not signed")) == 1


async def test_a_node_that_declines_run_after_run_is_reported_once(seats: Seats) -> None:
    target, offender = seats.target, seats.target.people.new()
    async with Client.linked(target.port, offender) as client:
        await client.say(framed(*(Decline(digest(f"run {number}"), "no") for number in range(9)), Ping()))
        assert isinstance(await client.hear(Pong), Pong)
    assert len(await target.said(offender, "cannot take part")) == 1


def test_every_kind_of_frame_is_in_these_tests() -> None:
    assert {type(frame) for frame in ALL} == {*get_args(Message), *get_args(LinkFrame)}


# --- other certificates, and none ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "observer"])
@pytest.mark.parametrize("frame", ALL, ids=name_of)
async def test_operators_and_observers_are_refused_on_control_connections(
    target: Target, role: Role, frame: ControlFrame
) -> None:
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


async def test_without_a_certificate_no_frame_is_read(target: Target) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([CONTROL_ALPN])
    await read_out(target.port, framed(*ALL), context)
    await read_out(target.port, framed(*ALL), None)
    await target.serves()


_people: dict[Role, Credentials] = {}


def people_of(target: Target, role: Role) -> Credentials:
    """Return a certificate with that role."""
    if role not in _people:
        _people[role] = target.people.new(role)
    return _people[role]


async def read_out(port: int, data: bytes, context: ssl.SSLContext | None) -> None:
    """Send *data*, and read until the node has closed."""
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
