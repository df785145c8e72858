"""Meshes on loopback for tests: real sockets, real TLS, short deadlines, and a recording listener."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from p2pfl.config import NetSettings
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.signatures import signer_of
from p2pfl.messages import Member, Message
from p2pfl.net.links.admission import EVERYBODY
from p2pfl.net.links.peers import LinkedPeer, LocalNode, MembershipPolicy
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport.acceptor import AlpnHandler
from p2pfl.proofs import Claim, JournalEvidence
from p2pfl.store.blobs import BlobStore
from tests.support.keys import signer

WAIT_SECONDS = 20.0
"""For something that takes milliseconds; only a failing test waits this long."""

FAST = NetSettings(
    handshake_seconds=5.0,
    hello_seconds=5.0,
    dial_seconds=2.0,
    ping_seconds=0.05,
    silence_seconds=3.0,
    redial_first_seconds=0.02,
    redial_max_seconds=0.1,
    blob_chunk_bytes=64 * 1024,
    blob_idle_seconds=5.0,
)


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until *condition* holds, for conditions without a callback."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)


class Incarnations:
    """A memory of incarnations that lasts for one test."""

    def __init__(self) -> None:
        self.known: dict[Member, JournalEvidence] = {}

    def seen(self, member: Member) -> JournalEvidence | None:
        return self.known.get(member)

    def save_claim(self, member: Member, claim: Claim) -> None:
        self.known[member] = JournalEvidence(claim, self.known.get(member, JournalEvidence()).cast)


class Recorder:
    """A mesh listener that records all callbacks, and lets a test wait for them."""

    def __init__(self) -> None:
        self.history: list[tuple[str, str]] = []
        self.messages: list[tuple[str, Message]] = []
        self.refusals: list[tuple[str, str]] = []
        self.unreachable_told: list[tuple[str, str]] = []
        self.clone_reports: list[str] = []
        self.pushes: list[tuple[str, int, int]] = []
        self.links: dict[str, LinkedPeer] = {}
        self._changed = asyncio.Event()

    def linked(self, peer: LinkedPeer) -> None:
        assert peer.member.node not in self.links, "linked twice without unlinked between"
        self.links[peer.member.node] = peer
        self._note("linked", peer.name)

    def unlinked(self, peer: LinkedPeer, reason: str) -> None:
        assert self.links.pop(peer.member.node) == peer, "unlinked without having been linked"
        self._note(f"unlinked: {reason}", peer.name)

    def received(self, peer: LinkedPeer, message: Message) -> None:
        assert self.links[peer.member.node] == peer, "a message from nobody"
        self.messages.append((peer.name, message))
        self._changed.set()

    def refused(self, address: str, reason: str) -> None:
        self.refusals.append((address, reason))
        self._changed.set()

    def unreachable(self, address: str, reason: str, *, is_refused: bool, delay: float) -> None:
        (self.refusals if is_refused else self.unreachable_told).append((address, reason))
        self._changed.set()

    def reachable(self, address: str) -> None:
        self.unreachable_told.append((address, ""))
        self._changed.set()

    def served(self, name: str, done: int, total: int) -> None:
        self.pushes.append((name, done, total))
        self._changed.set()

    def journal_cloned(self, reason: str) -> None:
        self.clone_reports.append(reason)
        self._changed.set()

    @property
    def names(self) -> set[str]:
        """Names of the linked peers."""
        return {peer.name for peer in self.links.values()}

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        """Wait until *condition* holds for this recorder; it is checked after every callback."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_refused(self, part: str) -> str:
        """Wait for a refusal whose reason contains *part*; return the reason."""
        await self.until(lambda told: any(part in reason for _, reason in told.refusals))
        return next(reason for _, reason in self.refusals if part in reason)

    def _note(self, what: str, name: str) -> None:
        self.history.append((what, name))
        self._changed.set()


class Node:
    """A mesh with its listener and its store."""

    def __init__(
        self, credentials: Credentials, mesh: Mesh, told: Recorder, store: BlobStore, local: LocalNode
    ) -> None:
        self.credentials = credentials
        self.mesh = mesh
        self.told = told
        self.store = store
        self.local = local

    @property
    def id(self) -> str:
        return self.credentials.node_id

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.mesh.port}"

    @property
    def unreached(self) -> dict[str, str]:
        """The dialled addresses whose last dial failed, with the reason."""
        return {one.address: one.failure.reason for one in self.mesh.contacts if one.failure}


class Lab:
    """Starts meshes and closes them all at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes: list[Node] = []

    async def start(
        self,
        credentials: Credentials,
        peers: Sequence[str] = (),
        *,
        local: LocalNode | None = None,
        incarnations: Incarnations | None = None,
        settings: NetSettings = FAST,
        listen: tuple[str | None, int] = ("127.0.0.1", 0),
        advertise: Sequence[str] = (),
        observers: AlpnHandler | None = None,
        membership: MembershipPolicy = EVERYBODY,
    ) -> Node:
        told = Recorder()
        store = BlobStore(self._path / f"{credentials.name}-{len(self._nodes)}")
        local = replace(local or new_local(), signer=signer_of(credentials))
        mesh = Mesh(
            credentials,
            local,
            told,
            store,
            listen=listen,
            peers=peers,
            settings=settings,
            incarnations=incarnations or Incarnations(),
            advertise=advertise,
            observers=observers,
            membership=membership,
        )
        await mesh.start()
        node = Node(credentials, mesh, told, store, local)
        self._nodes.append(node)
        return node

    async def stop(self, node: Node, reason: str = "the test stops it") -> None:
        self._nodes.remove(node)
        await node.mesh.close(reason)

    async def close(self) -> None:
        await asyncio.gather(*(node.mesh.close("the test is over") for node in self._nodes))


def new_local(
    journal: str | None = None, incarnation: int = 1, nonce: str | None = None, *, votes: int = 0
) -> LocalNode:
    """Return the local node of a fresh data directory; a `Lab` replaces its signer."""
    return LocalNode(
        journal or secrets.token_hex(16),
        incarnation,
        nonce or secrets.token_hex(16),
        "0.1.0",
        lambda: votes,
        signer("nobody"),
    )


@contextlib.asynccontextmanager
async def lab(path: Path) -> AsyncIterator[Lab]:
    """Open a lab whose stores are in *path*."""
    opened = Lab(path)
    try:
        yield opened
    finally:
        await opened.close()
