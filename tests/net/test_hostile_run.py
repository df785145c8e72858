"""Hostile clients beside a run: rounds take as long as before, and memory does not grow.

Three nodes run. A fourth member was killed: a raw client uses its certificate, other clients have certificates
of every role, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import statistics
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import msgspec
import psutil
import pytest

from p2pfl import events
from p2pfl.identity.credentials import Credentials, read_credentials
from p2pfl.identity.names import Role
from p2pfl.identity.signatures import signer_of
from p2pfl.messages import (
    MAX_ATTEMPT,
    Ballot,
    ControlRequest,
    Decline,
    DeviceInfo,
    Member,
    Message,
    Offer,
    Origin,
    Prepare,
    Promise,
    RecordBlobs,
    Records,
    RecordsRequest,
    Status,
)
from p2pfl.net.links.rate_limits import DEFAULT_LIMIT, FRAME_LIMITS
from p2pfl.net.transport.tls import CONTROL_ALPN, anonymous_client_context
from p2pfl.proofs import sign_claim
from p2pfl.store.directory import DataDirectory
from p2pfl.wire.codec import ControlFrame
from p2pfl.wire.links import Call, Peers, Ping, Pong, Refusal
from tests.support.hostile import (
    LINK_FRAMES,
    MAX_BYTES,
    MESSAGES,
    NONCE,
    Client,
    People,
    framed,
    hello_of,
    malformed,
    signed_message,
)
from tests.support.processes import LIGHT, Fleet, Process, address_of, last_round
from tests.support.records import digest

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("hostile run")]

NAMES = ("ada", "ben", "cleo", "mole")
PACE_SECONDS = 0.25
OPTIONS = (f"--pace={PACE_SECONDS}", "--rounds=100000", "--drop-after=900")

SLOWER = 1.2
"""Factor by which a round may take longer after an attack, ..."""

SLACK_SECONDS = 0.05
"""... and a margin for a busy machine."""

MEASURED = 4
"""Rounds in one measurement, of which the median counts."""

MEASURES = 20
"""Measurements before rounds count as too slow."""

KNOCK_SECONDS = 5.0
"""Between two attempts of a stranger."""

FLOOD_RATE, FLOODS_A_SECOND = 10_000, 20
"""Messages a second of a member that floods, in so many pieces."""

MAX_LINES = 30
"""Lines about one flooding client, of all three nodes together."""

MAX_GROWTH_BYTES = 64 * 2**20
"""Memory growth of each node over all tests."""


class Run:
    """Three members that train, and the credentials of a fourth one."""

    def __init__(
        self, fleet: Fleet, nodes: list[Process], mole: Credentials, journal: str, votes: int
    ) -> None:
        self.nodes = nodes
        self.folder = fleet.folder
        self.people = People(fleet.folder / "certs")
        self.mole = mole
        self._member = Member(mole.node_id, journal)
        self._votes = votes
        """Votes that the fourth member claims: more than the nodes may have seen before it was killed."""
        self.claim = sign_claim(signer_of(mole), self._member, 1000, NONCE, votes)
        """The claim of the fourth member about its journal."""
        with DataDirectory(fleet.folder / "ada").read_journal() as reader:
            (row,) = reader.runs()
            self.run = row.run
            self.genesis = reader.genesis(row.run)
        self.seconds = 0.0
        """Seconds of a round in the last measurement."""
        self.memory = [psutil.Process(node.pid) for node in nodes]
        self.before = [one.memory_info().rss for one in self.memory]

    @property
    def ports(self) -> list[int]:
        return [int(address_of(node).rpartition(":")[2]) for node in self.nodes]

    @property
    def round(self) -> int:
        """The last committed round."""
        return last_round(self.nodes[0])

    def linked(self, port: int, who: Credentials) -> AbstractAsyncContextManager[Client]:
        """Link *who* to the node at *port*; the fourth member uses its own journal."""
        return Client.linked(port, who, self.claim if who is self.mole else None)

    def continued(self) -> Offer:
        """Return the offer of a run that claims to continue this one."""
        origin = Origin(self.run, self.round, digest("record"), self.round)
        assert self.genesis is not None
        return Offer(msgspec.structs.replace(self.genesis, nonce=secrets.token_hex(16), continues=(origin,)))

    def said(self, who: Credentials, frame: Message) -> Message:
        """Return *frame* as sent by *who* for the open round."""
        if who is not self.mole:
            return signed_message(who, frame, self.run, self.round + 1)
        return signed_message(who, frame, self.run, self.round + 1, self._member, self._votes)

    async def measure(self) -> float:
        """Return the seconds that a round takes now."""
        node = self.nodes[0]
        start = self.round
        await node.until(events.Committed, lambda event: event.round >= start + MEASURED)
        rounds = [event for event in node.all(events.Committed) if event.round > start]
        return statistics.median(event.seconds for event in rounds)

    async def goes_on(self) -> None:
        """Check that rounds take as long as before, that all three train, and that memory has not grown."""
        most = self.seconds * SLOWER + SLACK_SECONDS
        taken = [await self.measure()]
        while taken[-1] > most and len(taken) < MEASURES:  # another program may have had the processor
            taken.append(await self.measure())
        assert taken[-1] <= most, f"{self.seconds:.3f} s before, then {taken}"
        grown = [one.memory_info().rss - was for one, was in zip(self.memory, self.before, strict=True)]
        assert max(grown) < MAX_GROWTH_BYTES, grown
        for node in self.nodes:
            assert not node.has_ended, node.output
            assert "Traceback" not in node.output

    def lines(self, who: Credentials) -> list[str]:
        """Return the output lines of the nodes about *who*."""
        return [line for node in self.nodes for line in node.output.splitlines() if who.name in line]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    fleet = Fleet(tmp_path_factory.mktemp("hostile-run"))
    try:
        yield asyncio.run(_running(fleet))
        fleet.check("ada", "ben", "cleo")
    finally:
        fleet.end()


async def _running(fleet: Fleet) -> Run:
    *nodes, fourth = await fleet.start_all(*NAMES, options=OPTIONS, program=LIGHT)
    await fourth.until(events.Committed, lambda event: event.round >= 6)
    fourth.end()
    mole = read_credentials(fleet.folder / "certs" / "mole")
    with DataDirectory(fleet.folder / "mole").read_journal() as reader:
        genesis = reader.genesis(reader.runs()[0].run)
    assert genesis is not None
    entries = genesis.roster
    (journal,) = (entry.journal for entry in entries if entry.node == mole.node_id)
    made = Run(fleet, nodes, mole, journal, 10**6)
    await made.measure()
    made.seconds = await made.measure()
    return made


def name_of(frame: ControlFrame) -> str:
    return type(frame).__name__


FLOODS = [
    frame
    for frame in [*MESSAGES, *LINK_FRAMES]
    if isinstance(frame, Offer | DeviceInfo | Decline | RecordsRequest | Promise | Prepare | Peers | Call)
]


async def answer_pings(client: Client) -> None:
    """Answer pings on the link of *client*, and send nothing else."""
    while isinstance(await client.hear(Ping), Ping):
        await client.say(framed(Pong()))


@contextlib.asynccontextmanager
async def opened(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the node at *port* without a certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def hang_up(run: Run, offender: Credentials, *frames: ControlFrame) -> None:
    """Send *frames* to each node, and check whether it has read them all."""
    for port in run.ports:
        async with run.linked(port, offender) as client:
            await client.say(framed(*frames, Ping()))
            assert isinstance(await client.hear(Pong), Pong)


WHO = pytest.mark.parametrize("is_member", [True, False], ids=["member", "no member"])


def offender_of(run: Run, is_member: bool) -> Credentials:
    return run.mole if is_member else run.people.new()


async def test_malformed_frames_of_every_kind_harm_no_round(run: Run) -> None:
    for is_member in (True, False):
        offender = offender_of(run, is_member)
        for number, frame in enumerate([*MESSAGES, *LINK_FRAMES]):
            if number % 2 == is_member:
                async with run.linked(run.ports[number % 3], offender) as client:
                    await client.say(malformed(frame)[0])
                    assert isinstance(await client.hear(), Refusal | None)
    await run.goes_on()


@WHO
async def test_unexpected_messages_harm_no_round(run: Run, is_member: bool) -> None:
    offender = offender_of(run, is_member)
    frames = [
        run.said(offender, frame)
        for frame in MESSAGES
        if not (is_member and isinstance(frame, ControlRequest))
    ]
    await hang_up(run, offender, *frames)
    await run.goes_on()
    assert not any("pauses" in line for line in run.lines(offender))
    assert not any("votes, and" in line for line in run.lines(offender))


async def test_a_control_request_of_a_non_member_is_reported_once_and_ignored(
    run: Run,
) -> None:
    offender = run.people.new()
    control_request = next(frame for frame in MESSAGES if isinstance(frame, ControlRequest))
    await hang_up(run, offender, run.said(offender, control_request), run.said(offender, control_request))
    await run.goes_on()
    assert sum("it is ignored" in line for line in run.lines(offender)) == len(run.nodes)


@WHO
async def test_a_ballot_far_ahead_ends_nothing(run: Run, is_member: bool) -> None:
    offender = offender_of(run, is_member)
    far = Prepare(run.run, run.round + 1, Ballot(MAX_ATTEMPT, offender.node_id))
    await hang_up(run, offender, far, msgspec.structs.replace(far, round=run.round + 2))
    await run.goes_on()


@WHO
async def test_forged_commits_and_records_end_nothing(run: Run, is_member: bool) -> None:
    offender = offender_of(run, is_member)
    with DataDirectory(run.folder / "ada").read_journal() as reader:
        commit = reader.records(run.run, run.round - 2, MAX_BYTES).commits[-1]
    other = msgspec.structs.replace(commit.record, blobs=RecordBlobs(digest("another")), note="forged")
    forged = msgspec.structs.replace(commit, record=other)
    await hang_up(run, offender, forged, Records(run.run, None, (forged,)))
    await run.goes_on()
    assert not any(node.all(events.Ended) for node in run.nodes)


@pytest.mark.parametrize("frame", FLOODS, ids=name_of)
async def test_a_node_that_floods_members_is_named_once_and_banned(run: Run, frame: ControlFrame) -> None:
    offender, port = run.people.new(), run.ports[0]
    if isinstance(frame, Offer):
        frame = run.continued()
    limit = FRAME_LIMITS.get(type(frame), DEFAULT_LIMIT)
    async with run.linked(port, offender) as client:
        await client.flood(frame, int(3 * limit.burst) + 500)
        await client.hear(Refusal)
    async with Client.connected(port, offender) as again:
        await again.say(framed(hello_of(offender)))
        refusal = await again.hear()
        assert isinstance(refusal, Refusal)
        assert "it is banned for 30 s" in refusal.reason
    await run.goes_on()
    words = f"it sends more {name_of(frame).upper()} than any node needs"
    assert sum(words in line for line in run.lines(offender)) == 1
    assert len(run.lines(offender)) < MAX_LINES


async def test_a_member_that_floods_is_banned_too(run: Run) -> None:
    async with run.linked(run.ports[0], run.mole) as client:
        await client.flood(run.continued(), 500)
        await client.hear(Refusal)
    async with Client.connected(run.ports[0], run.mole) as again:
        await again.say(framed(hello_of(run.mole, run.claim)))
        refusal = await again.hear()
        assert isinstance(refusal, Refusal)
        assert "it is banned" in refusal.reason
    await run.goes_on()


@pytest.mark.parametrize("role", ["operator", "observer"])
async def test_operators_and_observers_on_control_connections_harm_no_round(run: Run, role: Role) -> None:
    person = run.people.new(role)
    for frame in [*MESSAGES, *LINK_FRAMES]:
        async with Client.connected(run.ports[0], person) as client:
            await client.say(framed(frame))
            assert isinstance(await client.hear(), Refusal | None)
    await run.goes_on()


async def test_silent_strangers_harm_no_round_and_keep_no_node_out(run: Run) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", run.ports[0])))
        async with run.linked(run.ports[0], run.people.new()) as honest:
            assert isinstance(await honest.hear(Status), Status)
        await run.goes_on()


async def test_five_hundred_connections_without_a_certificate_harm_no_round(run: Run) -> None:
    """Half of them are silent; the others shake hands again and again, which costs the most."""
    context = anonymous_client_context(CONTROL_ALPN)

    async def knock(port: int) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(KNOCK_SECONDS), opened(port, context) as (reader, _):
                    await reader.read()
            await asyncio.sleep(KNOCK_SECONDS)

    async with contextlib.AsyncExitStack() as stack:
        for number in range(250):
            stack.enter_context(socket.create_connection(("127.0.0.1", run.ports[number % 3])))
            stack.push_async_callback(ended, asyncio.create_task(knock(run.ports[number % 3])))
        await run.goes_on()
    async with run.linked(run.ports[0], run.people.new()) as honest:
        assert isinstance(await honest.hear(Status), Status)


async def test_clients_that_send_a_byte_a_second_harm_no_round(run: Run) -> None:
    """Slow-loris clients: strangers in the middle of TLS, and one in the middle of a frame."""
    hello = ssl.MemoryBIO()
    client = anonymous_client_context(CONTROL_ALPN).wrap_bio(ssl.MemoryBIO(), hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    client_hello = hello.read()

    async def crawl(writer: asyncio.StreamWriter, data: bytes) -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)

    async def stranger(port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                async with opened(port) as (_, writer):
                    await crawl(writer, client_hello)

    async def insider(port: int) -> None:
        offender = run.people.new()
        async with Client.connected(port, offender) as slow:
            await crawl(slow._writer, framed(hello_of(offender)))

    async with contextlib.AsyncExitStack() as stack:
        for number in range(150):
            stack.push_async_callback(ended, asyncio.create_task(stranger(run.ports[number % 3])))
        for port in run.ports:
            stack.push_async_callback(ended, asyncio.create_task(insider(port)))
        await run.goes_on()


async def test_the_run_does_not_wait_for_a_linked_member_that_is_silent(run: Run) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for port in run.ports[1:]:  # the first one has turned it away
            client = await stack.enter_async_context(run.linked(port, run.mole))
            stack.push_async_callback(ended, asyncio.create_task(answer_pings(client)))
        await run.goes_on()


async def test_a_member_that_sends_ten_thousand_messages_a_second_harms_no_round(run: Run) -> None:
    """It dials again whenever it is cut off, and goes on."""
    status = next(frame for frame in MESSAGES if isinstance(frame, Status))

    async def flood(port: int) -> None:
        piece = framed(*[run.said(run.mole, status)] * (FLOOD_RATE // FLOODS_A_SECOND))
        while True:
            with contextlib.suppress(AssertionError, OSError, TimeoutError):
                async with run.linked(port, run.mole) as client:
                    while not client._writer.transport.is_closing():
                        await client.say(piece)
                        await asyncio.sleep(1 / FLOODS_A_SECOND)
            await asyncio.sleep(1 / FLOODS_A_SECOND)

    async with contextlib.AsyncExitStack() as stack:
        for port in run.ports[1:]:
            stack.push_async_callback(ended, asyncio.create_task(flood(port)))
        await run.goes_on()
    told = [line for line in run.lines(run.mole) if "it sends more STATUS than any node needs" in line]
    assert len(told) <= 2, "once by each node that it flooded"
