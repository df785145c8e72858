"""The node itself, its linked peers, and the callbacks of the mesh, as the rest of the node uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import Member, Message
from p2pfl.proofs import Claim, JournalEvidence, Signer, sign_claim
from p2pfl.wire.links import Refusal, RenewalFrame, RevocationList, Statements


@dataclass(frozen=True)
class LocalNode:
    """What this node states about itself in HELLO and WELCOME, and the key that signs it."""

    journal: str
    incarnation: int
    nonce: str
    """16 random bytes in hex, new at each start of the process."""
    version: str
    """Version of the software."""
    votes: Callable[[], int]
    """Returns how many votes the journal has durably cast."""
    signer: Signer

    def claim(self, node: str) -> Claim:
        """Return the current, signed claim of this node, whose id is *node*, about its journal."""
        return sign_claim(self.signer, Member(node, self.journal), self.incarnation, self.nonce, self.votes())


@dataclass(frozen=True)
class LinkedPeer:
    """The peer of a link. Its certificate proves node id, name and role; the peer itself states the rest."""

    member: Member
    name: str
    role: str
    address: str
    """Where it can probably be reached: the address this node dialled, or the peer's source address with
    the port it announced."""
    incarnation: int
    nonce: str
    serial: int = 0
    """Serial number of its certificate."""


class IncarnationMemory(Protocol):
    """Persistent memory of other journals' incarnations and votes, which exposes copies of a journal."""

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the latest that was seen of *member*."""

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Store what *member* claims; it is durable on return."""


class MembershipPolicy:
    """Who is kept out of the federation, for the mesh. This one keeps nobody out and learns nothing."""

    def refusal(self, peer: PeerIdentity, incarnation: int) -> Refusal | None:  # noqa: ARG002 - see the class
        """Return why *peer*, in its start *incarnation*, gets no link; None if it may have one."""
        return None

    def reason(self, peer: PeerIdentity) -> str:  # noqa: ARG002 - see the class
        """Return why *peer* gets no connection of another kind; empty if it may have one."""
        return ""

    def is_banned(self, node: str) -> bool:  # noqa: ARG002 - see the class
        """Whether the node with this id gets no link before somebody lifts its ban."""
        return False

    def frames(self) -> list[Statements | RevocationList]:
        """Return what a newly linked peer is told."""
        return []

    def heard(self, source: LinkedPeer, frame: Statements | RevocationList) -> None:
        """Take what the linked peer *source* says."""

    def refused(self, refusal: Refusal) -> Refusal | None:  # noqa: ARG002 - see the class
        """Take the proof in a refusal of kind "excluded"; return an answer if that does not hold any more."""
        return None


class MeshListener(Protocol):
    """Callbacks of the mesh. They run in the event loop, never inside a call to the mesh."""

    def linked(self, peer: LinkedPeer) -> None:
        """Handle a new link to *peer*, after TLS and HELLO; called once until `unlinked`."""

    def unlinked(self, peer: LinkedPeer, reason: str) -> None:
        """Handle the end of the link to *peer*."""

    def received(self, peer: LinkedPeer, message: Message) -> None:
        """Handle *message*, received on the link to *peer*."""

    def refused(self, address: str, reason: str) -> None:
        """Report a refused connection to the user; the same one at most once a minute."""

    def unreachable(self, address: str, reason: str, *, is_refused: bool, delay: float) -> None:
        """Report once for each reason why a listed, known or found *address* cannot be reached.

        With *is_refused* one side refused the other. The next dial is after *delay* seconds.
        """

    def reachable(self, address: str) -> None:
        """Report that *address*, whose failure was reported, was reached."""

    def served(self, name: str, done: int, total: int) -> None:
        """Report, a few times a second, that *done* of *total* bytes of a long blob were sent to *name*."""

    def journal_cloned(self, reason: str) -> None:
        """Stop the node: a peer has proved a later state of its journal, so the journal here is a copy."""


class RenewalListener(Protocol):
    """Callbacks of the mesh about the renewal of certificates. They run in the event loop."""

    def linked(self, peer: LinkedPeer) -> None:
        """Handle a new link to *peer*."""

    def unlinked(self, node: str) -> None:
        """Handle the end of the link to *node*."""

    def received(self, peer: LinkedPeer, frame: RenewalFrame) -> None:
        """Handle *frame*, received on the link to *peer*."""
