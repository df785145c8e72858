"""Stores the incarnation numbers of other nodes in the journal; a disk error ends this node.

The mesh must not link a node whose incarnation number is not stored: it could not detect a copy of that
node's journal later. The mesh does not know the journal, and a full disk is not the fault of the connecting
peer. So this module refuses the connection and ends the node with the reason.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.messages import Member
from p2pfl.net.links.peers import IncarnationMemory
from p2pfl.proofs import CastVote, Claim, JournalEvidence


class Incarnations:
    """The evidence that other members have shown about their journals, stored in *journal*.

    *newest_vote* returns the newest vote received from a member since this node's start; it may not be on
    disk yet. *fail* is called with a disk error.
    """

    def __init__(
        self,
        journal: IncarnationMemory,
        newest_vote: Callable[[Member], CastVote | None],
        fail: Callable[[DataDirectoryError], None],
    ) -> None:
        self._journal = journal
        self._newest_vote = newest_vote
        self._fail = fail
        self._known: dict[Member, JournalEvidence] = {}
        """Cache of the journal, since reading from it may have to wait for a flush."""

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the latest evidence that *member* has shown; None: it has shown nothing."""
        known = self._known.get(member) or self._journal.seen(member)
        if known is not None:
            self._known[member] = known
        cast = self._newest_vote(member)
        return (
            known.with_vote(cast)
            if known is not None
            else JournalEvidence(cast=cast)
            if cast is not None
            else None
        )

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Store the claim of *member*; it is on disk on return.

        Raises:
            HandshakeRefused: the claim could not be stored; this node ends.
        """
        try:
            self._journal.save_claim(member, claim)
        except DataDirectoryError as error:
            self._fail(error)
            raise HandshakeRefused(
                "this node cannot write to its disk any more, so it accepts no links and ends"
            ) from error
        before = self._known.get(member)
        self._known[member] = JournalEvidence(claim, before.cast if before is not None else None)
