"""Who is who on the network: this node and its peers, as the rest of the node gets to see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from p2pfl.messages import Member, Message
from p2pfl.proofs import Claim, JournalEvidence, Signer, sign_claim


@dataclass(frozen=True)
class Local:
    """What this node says of itself in HELLO, and what it signs that with."""

    journal: str
    incarnation: int
    nonce: str
    """16 random bytes in hex, new at each start of the process."""
    version: str
    """Of the software."""
    votes: Callable[[], int]
    """Returns how many votes the journal has cast, durably."""
    signer: Signer

    def claim(self, node: str) -> Claim:
        """Return what this node, with the id *node*, says of its journal now."""
        return sign_claim(self.signer, Member(node, self.journal), self.incarnation, self.nonce, self.votes())


@dataclass(frozen=True)
class LinkedPeer:
    """The other end of a link. Node id, name and role are its certificate's, the rest its own words."""

    member: Member
    name: str
    role: str
    address: str
    """Where it can be reached, as far as this node knows: the address dialled, or its source address with
    the port it announced."""
    incarnation: int
    nonce: str


class IncarnationMemory(Protocol):
    """What is remembered of other nodes' journals, their starts and votes: copies of a journal show by it."""

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the last that *member* has shown."""

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Remember what *member* claims; durable on return."""


class MeshListener(Protocol):
    """Who is told what happens on the mesh, in the event loop, never from inside a call to the mesh."""

    def linked(self, peer: LinkedPeer) -> None:
        """Take note that a link to *peer* is up, past TLS and HELLO. Told once until `unlinked`."""

    def unlinked(self, peer: LinkedPeer, reason: str) -> None:
        """Take note that the link to *peer* ended."""

    def received(self, peer: LinkedPeer, message: Message) -> None:
        """Take *message*, which came on the link to *peer*."""

    def refused(self, address: str, reason: str) -> None:
        """Tell people of a connection that one side refused; repeats come once a minute at most."""

    def unreached(self, address: str, reason: str, *, is_refused: bool) -> None:
        """Tell people why the listed *address* leads nowhere; with an empty *reason*, that it does again.

        With *is_refused* one side refused the other, which `refused` was told too.
        """

    def served(self, name: str, done: int, total: int) -> None:
        """Tell people how far a long blob is sent to the peer *name*, some times a second: bytes of bytes."""

    def disowned(self, reason: str) -> None:
        """Stop: a peer has proved a later state of this node's journal, so the journal is a copy."""
