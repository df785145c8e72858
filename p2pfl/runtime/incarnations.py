"""The memory of other nodes' starts that the mesh asks, on a disk that may refuse.

The mesh must not link a node whose start it cannot remember: a copy of that node's journal would go unnoticed
later. It knows no journal, though, and a full disk is no fault of the peer at the door: the node ends, and
says why.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.messages import Member
from p2pfl.net.links.peers import IncarnationMemory
from p2pfl.proofs import CastVote, Claim, JournalEvidence


class Incarnations:
    """What other nodes have shown, remembered by *journal*; a refusing disk is told to *fail*.

    *newest_vote* returns the newest vote of a member since this node's start: it may not be on disk yet.
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
        """What the journal holds, as far as it was asked: reading it may have to wait for a flush."""

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the last that *member* has shown."""
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
        """Remember what *member* claims; durable on return.

        Raises:
            HandshakeRefused: the disk refused; the node ends.
        """
        try:
            self._journal.save_claim(member, claim)
        except DataDirectoryError as error:
            self._fail(error)
            raise HandshakeRefused(
                "this node's disk takes nothing any more, so it links nobody; it ends and says why"
            ) from error
        before = self._known.get(member)
        self._known[member] = JournalEvidence(claim, before.cast if before is not None else None)
