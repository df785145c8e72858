"""Who is who on the network: this node and its peers, as the rest of the node gets to see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from p2pfl.messages import Member, Message


@dataclass(frozen=True)
class Local:
    """What this node says of itself in HELLO."""

    journal: str
    boot: int
    nonce: str
    """16 random bytes in hex, new at each start of the process."""
    version: str
    """Of the software."""


@dataclass(frozen=True)
class Peer:
    """The other end of a link. Node id, name and role are its certificate's, the rest its own words."""

    member: Member
    name: str
    role: str
    address: str
    """Where it can be reached, as far as this node knows: the address dialled, or its source address with
    the port it announced."""
    boot: int
    nonce: str


class BootMemory(Protocol):
    """What is remembered, durably, of the starts of other nodes' journals: copies of a journal show by it."""

    def seen_boot(self, member: Member) -> tuple[int, str] | None:
        """Return the highest boot count seen of *member* and its nonce."""

    def save_boot(self, member: Member, boot: int, nonce: str) -> None:
        """Remember them; durable on return."""


class MeshListener(Protocol):
    """Who is told what happens on the mesh, in the event loop, never from inside a call to the mesh."""

    def linked(self, peer: Peer) -> None:
        """Take note that a link to *peer* is up, past TLS and HELLO. Told once until `unlinked`."""

    def unlinked(self, peer: Peer, reason: str) -> None:
        """Take note that the link to *peer* ended."""

    def received(self, peer: Peer, message: Message) -> None:
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
        """Stop: a peer has seen a later start of this node's journal, so the journal is a copy."""
