"""Keeps out of the federation who is to be kept out: what this node knows, tells, stores and does about it.

Statements and revocation lists come from peers, from a command of an operator, and from files that a person
copies into the device's folder. All take one way: they are verified (`p2pfl.identity.exclusions`), written to
the folder, told to all linked nodes, published as events, and passed to the protocol. So every member learns
of a ban within moments, and one that was away learns it with its first link.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.node import Node
from p2pfl.errors import CredentialsError
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.exclusions import STATEMENTS_FILE, Exclusions
from p2pfl.identity.peer import PeerIdentity
from p2pfl.identity.revocation import REVOCATIONS_FILE
from p2pfl.net.links.peers import IncarnationMemory, LinkedPeer, MembershipPolicy
from p2pfl.net.mesh import Mesh
from p2pfl.runtime.driver import Driver
from p2pfl.statements import REVOKED, Signed, Statement
from p2pfl.text import one_line
from p2pfl.wire.links import MAX_STATEMENTS_OF_FRAME, Refusal, RevocationList, Statements
from p2pfl.wire.observing import MAX_BANS, HeldBan, KnownNode, MembershipReport

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the files in the device's folder, into which a person may copy newer ones."""

COMPLAINT_SECONDS = 60.0
"""Minimum time between two complaints about one peer."""


def check_not_revoked(credentials: Credentials, exclusions: Exclusions) -> None:
    """Refuse to run a node whose certificate is revoked.

    Raises:
        CredentialsError: it is; the message says what to do.
    """
    if credentials.node_id in exclusions.revocations.keys:
        raise CredentialsError(
            f"The certificate of {credentials.name} in {credentials.directory} was revoked by the CA: no "
            f"node links with it. Get a new key with `p2pfl certs issue {credentials.name} --force` on the "
            "CA's machine, and start this device with the new folder."
        )


class Membership(MembershipPolicy):
    """Who is kept out, for the mesh and the protocol of one node."""

    def __init__(
        self,
        credentials: Credentials,
        exclusions: Exclusions,
        node: Node,
        driver: Driver,
        incarnation: int,
    ) -> None:
        """Start nothing yet; *incarnation* is the present start of this node's journal."""
        self._own = credentials.node_id
        self._folder = credentials.directory
        self._exclusions = exclusions
        self._node = node
        self._driver = driver
        self._incarnation = incarnation
        self._mesh: Mesh | None = None
        self._memory: IncarnationMemory | None = None
        self._recheck: Callable[[], None] = lambda: None
        self._is_told_own = False
        """Whether a peer has shown a ban of this node since its start. One in its own folder does not count:
        it may have been lifted while the node was off."""
        self._told: dict[str, tuple[str, str]] = {}
        """By node, what was published last: name and sentence."""
        self._complained: dict[str, float] = {}
        self._stamps = self._stamp()

    # --- for the mesh ---------------------------------------------------------------------------------------

    def refusal(self, peer: PeerIdentity, incarnation: int) -> Refusal | None:
        """Return why *peer*, in its start *incarnation*, gets no link; None if it may have one."""
        if peer.node_id == self._own or self._node.needs(peer.node_id):
            return None
        exclusions = self._exclusions
        if exclusions.revocations.covers(peer.node_id, peer.serial):
            der = exclusions.revocations.der
            return Refusal("excluded", one_line(f"{peer.name} {REVOKED}", 300), revocations=der)
        found = exclusions.book.ban_of(peer.node_id) or exclusions.book.kick_of(peer.node_id, incarnation)
        if found is None:
            return None
        return Refusal("excluded", one_line(f"{peer.name} {found.sentence}", 300), statement=found.statement)

    def reason(self, peer: PeerIdentity) -> str:
        """Return why *peer* gets no connection of another kind; empty if it may have one."""
        if peer.node_id == self._own or self._node.needs(peer.node_id):
            return ""
        return self._exclusions.reason(peer.node_id, peer.serial)

    def is_banned(self, node: str) -> bool:
        """Whether the node with this id gets no link before somebody lifts its ban."""
        return bool(self._exclusions.reason(node)) and not self._node.needs(node)

    def frames(self) -> list[Statements | RevocationList]:
        """Return what a newly linked peer is told."""
        der = self._exclusions.revocations.der
        frames = _frames(one.statement for one in self._exclusions.book.all())
        return [*([RevocationList(der)] if der else []), *frames]

    def heard(self, source: LinkedPeer, frame: Statements | RevocationList) -> None:
        """Take what the linked peer *source* says."""
        match frame:
            case RevocationList():
                flaw = self._take_revocations(frame.crl)
            case Statements():
                flaw = self._take(frame.statements)
        if flaw:
            self._complain(source, flaw)

    def refused(self, refusal: Refusal) -> Refusal | None:
        """Take the proof in a refusal of kind "excluded"; one that proves nothing is ignored.

        Return the answer if a later statement lifts the ban of this node that the refusal shows.
        """
        if refusal.revocations:
            self._take_revocations(refusal.revocations)
        statement = refusal.statement
        if statement is None:
            return None
        lift = self._exclusions.book.lift_of(self._own)
        is_own_ban = statement.node == self._own and statement.what == "ban"
        if is_own_ban and lift is not None and statement.number < lift.statement.number:
            text = "the other side has not heard yet that this device is not banned any more, and is told"
            return Refusal("excluded", text, statement=lift.statement)
        self._take((statement,))
        return None

    # --- for operators --------------------------------------------------------------------------------------

    def give(self, statement: Statement, who: str) -> tuple[str, str]:
        """Take a *statement* that *who* hands to this node; return why it was refused, or what was done."""
        refused, text = self._give(statement)
        name = one_line(statement.name, 64)
        self._driver.publish(events.Commanded(who, f"{statement.what} {name}", refused))
        return refused, text

    def _give(self, statement: Statement) -> tuple[str, str]:
        if self._exclusions.book.knows(statement):
            return "", "it was known already"
        flaw = self._take((statement,))
        if flaw:
            return flaw, ""
        name = one_line(statement.name, 64)
        ban = self._exclusions.book.ban_of(statement.node)
        if statement.what == "kick":
            return "", f"{name} is out with the next commit; it may come back when it is started again"
        if statement.what == "ban":
            held = ban is not None
            return (
                ("", f"{name} is banned, and out with the next commit") if held else (self._overruled(), "")
            )
        if ban is not None:
            return f"{name} stays banned, for the CA decides over operators: it {ban.sentence}", ""
        return "", f"{name} is not banned any more; it may be started again"

    def _overruled(self) -> str:
        return "a later statement about that node holds: `p2pfl bans` shows it"

    def report(self, number: int) -> MembershipReport:
        """Return the nodes that this node knows, and who is kept out, as the answer to request *number*."""
        ledger = self._node.ledger
        known: dict[str, KnownNode] = {}
        for entry in ledger.roster if ledger is not None else ():
            evidence = self._memory.seen(entry.member) if self._memory is not None else None
            start = evidence.claim.incarnation if evidence is not None and evidence.claim is not None else 0
            known[entry.node] = KnownNode(entry.node, entry.name, start, is_member=True)
        for node, peer in self._mesh.links().items() if self._mesh is not None else ():
            known[node] = KnownNode(node, peer.name, peer.incarnation, is_member=node in known)
        book, revocations = self._exclusions.book, self._exclusions.revocations
        bans = sorted(book.bans().items(), key=lambda item: -item[1].statement.number)[:MAX_BANS]
        return MembershipReport(
            number,
            tuple(known.values()),
            {one.statement.node: book.number_of(one.statement.node) for one in book.all()},
            tuple(
                HeldBan(node, one.statement.name, one.by.name, one.statement.reason, one.statement.at)
                for node, one in bans
            ),
            revocations.number,
            tuple(sorted(revocations.keys)),
        )

    # --- one way for all ------------------------------------------------------------------------------------

    def start(self, mesh: Mesh, memory: IncarnationMemory, recheck: Callable[[], None]) -> None:
        """Begin with what is in the folder, once the protocol runs.

        *memory* has the starts of other nodes; *recheck* is called when a certificate may have become
        useless.
        """
        self._mesh, self._memory, self._recheck = mesh, memory, recheck
        if self._exclusions.remark:
            self._driver.publish(events.Notice("warning", self._exclusions.remark))
        self._tell()
        self._feed(self._exclusions.book.all())

    async def run(self) -> None:
        """Look at the files in the device's folder from time to time."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Read the files in the device's folder if they have changed."""
        stamps = self._stamp()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            news, is_newer = self._exclusions.read()
        except CredentialsError as error:
            self._driver.publish(events.Notice("warning", str(error)))
            return
        if self._exclusions.remark:
            self._driver.publish(events.Notice("warning", self._exclusions.remark))
        self._adopt(news, is_newer=is_newer)

    def _stamp(self) -> list[tuple[int, int] | None]:
        return [_stamp_of(self._folder / name) for name in (STATEMENTS_FILE, REVOCATIONS_FILE)]

    def _take(self, statements: Iterable[Statement]) -> str:
        """Take *statements* up to the first that does not count; return why it does not, empty if all do."""
        news, flaw = [], ""
        for statement in statements:
            signed, flaw = self._exclusions.take(statement)
            self._is_told_own |= statement.node == self._own and not flaw
            if flaw:
                break
            if signed is not None:
                news.append(signed)
        self._adopt(news, is_newer=False)
        return flaw

    def _take_revocations(self, der: bytes) -> str:
        is_newer, flaw = self._exclusions.take_revocations(der)
        if is_newer:
            self._adopt([], is_newer=True)
        return flaw

    def _adopt(self, news: list[Signed], *, is_newer: bool) -> None:
        """Store, tell, publish and obey what is new."""
        if news or is_newer:
            self._save()
            if self._mesh is not None:
                for frame in _frames(one.statement for one in news):
                    self._mesh.spread(frame)
                if is_newer:
                    self._mesh.spread(RevocationList(self._exclusions.revocations.der))
            self._tell()
            for one in news:
                if not one.is_lasting:
                    self._publish(one.statement.node, one.statement.name, one.sentence, held=False)
        self._feed(news)

    def _save(self) -> None:
        try:
            self._exclusions.save()
        except CredentialsError as error:
            self._driver.publish(
                events.Notice(
                    "warning",
                    f"who is banned is not remembered on this device, only while this node runs: {error}",
                )
            )
        self._stamps = self._stamp()

    def _tell(self) -> None:
        """Publish the bans and revocations that are not published yet, and those that are lifted."""
        held = {
            node: (ban.statement.name, ban.sentence) for node, ban in self._exclusions.book.bans().items()
        }
        for key in self._exclusions.revocations.keys:
            held[key] = (held[key][0] if key in held else self._node.name_of(key), REVOKED)
        for node, (name, sentence) in held.items():
            if self._told.get(node) != (name, sentence):
                self._publish(node, name, sentence, held=True)
        for node, (name, _) in self._told.items():
            if node not in held:
                self._publish(node, name, "is not banned any more", held=False)
        self._told = held

    def _publish(self, node: str, name: str, sentence: str, *, held: bool) -> None:
        logger.info("%s (%s) %s", name, node, sentence)
        self._driver.publish(events.MemberExcluded(node, name, one_line(sentence, 400), held))

    def _feed(self, news: Iterable[Signed]) -> None:
        """Pass on to the protocol who is kept out now; close connections that are not allowed any more."""
        excluded = self._exclusions.excluded()
        if not self._is_told_own and self._own not in self._exclusions.revocations.keys:
            excluded.pop(self._own, None)
        self._driver.feed(inputs.Ban(excluded))
        for one in news:
            if not one.is_lasting and self._start_of(one.statement.node) <= one.statement.incarnation:
                self._driver.feed(inputs.Kick(one.statement.node, one.sentence))
        for node, peer in self._mesh.links().items() if self._mesh is not None else ():
            reason = self._exclusions.reason(node, peer.serial)
            if self._mesh is not None and reason and node not in excluded:
                self._mesh.dismiss(node, f"{peer.name} {reason}")  # an old certificate of a key that is good
        self._recheck()

    def _start_of(self, node: str) -> int:
        """Return the last start of *node* that this node knows of; 0 for none."""
        if node == self._own:
            return self._incarnation
        peer = self._mesh.links().get(node) if self._mesh is not None else None
        ledger = self._node.ledger
        entries = [entry for entry in ledger.roster if entry.node == node] if ledger is not None else []
        if peer is not None:
            return peer.incarnation
        evidence = self._memory.seen(entries[0].member) if entries and self._memory is not None else None
        return evidence.claim.incarnation if evidence is not None and evidence.claim is not None else 0

    def _complain(self, source: LinkedPeer, flaw: str) -> None:
        now, node = asyncio.get_running_loop().time(), source.member.node
        if now < self._complained.get(node, 0.0):
            return
        self._complained[node] = now + COMPLAINT_SECONDS
        text = (
            f"{source.name} passed on a statement about members that is ignored: {flaw}. Look at that device"
        )
        self._driver.publish(events.Notice("warning", text))


def _frames(statements: Iterable[Statement]) -> list[Statements | RevocationList]:
    """Return *statements* in as many frames as they need."""
    known = tuple(statements)
    starts = range(0, len(known), MAX_STATEMENTS_OF_FRAME)
    return [Statements(known[start : start + MAX_STATEMENTS_OF_FRAME]) for start in starts]


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
