"""Nodes that are kept out get no link, no blob and no place as an observer: real TLS on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from p2pfl.errors import NetworkError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.identity.signatories import load_signing
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.links.peers import LinkedPeer, MembershipPolicy
from p2pfl.statements import Statement
from p2pfl.wire.links import Refusal, RevocationList, Statements
from tests.support.federation import make_federation
from tests.support.meshes import lab, until

BLOB = b"x" * 100
DIGEST = blake3(BLOB).hexdigest()


class Gate(MembershipPolicy):
    """Keeps out who is in `banned`, and records what it hears."""

    def __init__(self) -> None:
        self.banned: dict[str, Statement] = {}
        self.told: list[Statements | RevocationList] = []
        self.heard_from: list[tuple[str, Statements | RevocationList]] = []
        self.shown: list[Refusal] = []
        self.answer: Refusal | None = None

    def refusal(self, peer: PeerIdentity, incarnation: int) -> Refusal | None:
        assert incarnation == 1
        statement = self.banned.get(peer.node_id)
        return None if statement is None else Refusal("excluded", "it is banned", statement=statement)

    def reason(self, peer: PeerIdentity) -> str:
        return "is banned" if peer.node_id in self.banned else ""

    def is_banned(self, node: str) -> bool:
        return node in self.banned

    def frames(self) -> list[Statements | RevocationList]:
        return self.told

    def heard(self, source: LinkedPeer, frame: Statements | RevocationList) -> None:
        self.heard_from.append((source.name, frame))

    def refused(self, refusal: Refusal) -> Refusal | None:
        self.shown.append(refusal)
        if refusal.statement is not None and refusal.statement.what == "unban":
            self.banned.pop(refusal.statement.node, None)
        return self.answer if self.answer is not None and refusal != self.answer else None


def ban_of(path: Path, credentials: Credentials) -> Statement:
    return load_signing(path / "ca").sign("ban", credentials.node_id, credentials.name)


@pytest.mark.parametrize("dials", ["ada", "ben"])
async def test_a_banned_node_is_refused_with_the_proof_whoever_dials(tmp_path: Path, dials: str) -> None:
    ada, ben = make_federation(tmp_path / "ca", "ada", "ben").values()
    gate, shown = Gate(), Gate()
    gate.banned[ben.node_id] = ban_of(tmp_path, ben)
    async with lab(tmp_path) as world:
        first = await world.start(
            ada if dials == "ben" else ben, membership=gate if dials == "ben" else shown
        )
        second = await world.start(
            ben if dials == "ben" else ada,
            [first.address],
            membership=shown if dials == "ben" else gate,
        )
        await until(lambda: bool(shown.shown))
        refusal = shown.shown[0]
        assert (refusal.kind, refusal.statement) == ("excluded", gate.banned[ben.node_id])
        if dials == "ada":  # at an address that its operator has listed
            await second.told.until_refused("it is banned")
        assert first.told.names == second.told.names == set()
        if dials == "ada":
            await until(lambda: second.mesh.expected == 1)
        else:
            assert first.told.refusals == [], "the ban was told when it was given"


async def test_a_later_statement_of_the_refused_node_opens_the_door(tmp_path: Path) -> None:
    ada, ben = make_federation(tmp_path / "ca", "ada", "ben").values()
    gate, lifted = Gate(), Gate()
    gate.banned[ben.node_id] = ban_of(tmp_path, ben)
    lift = load_signing(tmp_path / "ca").sign("unban", ben.node_id, "ben")
    lifted.answer = Refusal("excluded", "it is not banned any more", statement=lift)
    async with lab(tmp_path) as world:
        first = await world.start(ada, membership=gate)
        second = await world.start(ben, [first.address], membership=lifted)
        await second.told.until(lambda told: told.names == {"ada"})
        assert gate.shown[0].statement == lift


async def test_who_is_linked_hears_what_is_known_and_what_is_new(tmp_path: Path) -> None:
    ada, ben = make_federation(tmp_path / "ca", "ada", "ben").values()
    known, news = Statements((ban_of(tmp_path, ada),)), RevocationList(b"a list")
    gate, hearer = Gate(), Gate()
    gate.told = [known]
    async with lab(tmp_path) as world:
        first = await world.start(ada, membership=gate)
        await world.start(ben, [first.address], membership=hearer)
        await until(lambda: hearer.heard_from == [("ada", known)])
        first.mesh.spread(news)
        await until(lambda: hearer.heard_from[1:] == [("ada", news)])


async def test_a_dismissed_node_gets_what_was_queued_for_it(tmp_path: Path) -> None:
    ada, ben = make_federation(tmp_path / "ca", "ada", "ben").values()
    gate, hearer, news = Gate(), Gate(), RevocationList(b"a list")
    async with lab(tmp_path) as world:
        first = await world.start(ada, membership=gate)
        second = await world.start(ben, [first.address], membership=hearer)
        await first.told.until(lambda told: told.names == {"ben"})
        gate.banned[ben.node_id] = ban_of(tmp_path, ben)
        first.mesh.spread(news)
        first.mesh.dismiss(ben.node_id, "ben is banned")
        first.mesh.dismiss(ada.node_id, "nobody of that name is linked")
        await second.told.until(
            lambda told: ("unlinked: it said goodbye: ben is banned", "ada") in told.history
        )
        assert hearer.heard_from == [("ada", news)]


async def test_a_banned_node_pulls_nothing_and_nothing_is_pulled_from_it(tmp_path: Path) -> None:
    ada, ben = make_federation(tmp_path / "ca", "ada", "ben").values()
    gate = Gate()
    async with lab(tmp_path) as world:
        first = await world.start(ada, membership=gate)
        second = await world.start(ben, [first.address])
        await second.told.until(lambda told: told.names == {"ada"})
        await first.told.until(lambda told: told.names == {"ben"})
        path = first.store.new_path()
        path.write_bytes(BLOB)
        first.store.adopt(path, DIGEST)
        gate.banned[ben.node_id] = ban_of(tmp_path, ben)
        with pytest.raises(NetworkError, match="ben is banned"):
            await second.mesh.pull(PullRequest(DIGEST, len(BLOB), [ada.node_id]))
        with pytest.raises(NetworkError):
            await first.mesh.pull(PullRequest("0" * 64, 1, [ben.node_id]))
