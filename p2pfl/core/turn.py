"""Whether it is this member's turn to stand in the open round: what it knows of itself and of the others.

`p2pfl.core.election` decides; here is what it decides by. Beside that, a member waits until a new run has a
quorum, and after a restart until it has heard who stands already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.election import Candidate, Situation, decide_candidacy
from p2pfl.core.ledger import Ledger
from p2pfl.messages import RosterEntry

LACKING_SECONDS = 3.0
"""After so long without the last model a member stands last: whoever accepted it has it at once."""


@dataclass
class Turn:
    """Made anew with every round."""

    ctx: Context
    ledger: Ledger
    acceptor: Acceptor
    aggregator: Aggregator
    order: Sequence[str]
    """The roster's node ids by rank for this round."""
    is_resumed: bool = False
    """Whether this is the round in which the process started."""
    wake: float | None = None
    """When to ask again if nothing happens, since `consider` was last called."""
    _gathered_at: float | None = None
    """When this member first saw a quorum in a run that has no commit yet."""
    _hears_until: float | None = None
    """Until when it listens after a restart, from when it first saw a quorum; then it knows what is to be
    known."""

    def consider(self, reachable: int, *, is_ready: bool) -> None:
        """Stand if it is this member's turn.

        *reachable* members are here; *is_ready* says whether this one's worker knows the run's task.
        """
        self.wake = None
        if self.aggregator.candidacy is not Candidacy.IDLE or not self._has_gathered():
            return
        if self.is_resumed and not self._has_listened(reachable):
            return
        verdict, reason, wake = decide_candidacy(self._situation(reachable, is_ready=is_ready))
        if verdict:
            has_lowest = self.ctx.policy.lowest(self.order, self.ctx.me.node)
            self.aggregator.stand(reason, has_lowest=has_lowest)
        self.wake = earliest(self.wake, wake)

    def _has_gathered(self) -> bool:
        """Whether a quorum is in the run: record 0 and its model come to one member sooner than to another.

        Who stood before would not be answered, and the first in rank comes too late for its turn.
        """
        if self.ledger.last is None and self._gathered_at is None:
            here = sum(map(self._is_in_run, self.ledger.roster))
            self._gathered_at = self.ctx.now if here >= self.ledger.needed else None
            return self._gathered_at is not None
        return True

    def _has_listened(self, reachable: int) -> bool:
        """Whether this member, restarted in the open round, has heard what it has forgotten.

        Who aggregates tells it on a new link. Not all links come at once, and who stood before they are there
        would take the round from a live candidate.
        """
        if self.ledger.needed == 1:
            return True
        if self._hears_until is None and reachable >= self.ledger.needed:
            self._hears_until = self.ctx.now + self.ctx.settings.resend
        if self._hears_until is None or self.ctx.now < self._hears_until:
            self.wake = self._hears_until
            return False
        return True

    def _is_in_run(self, entry: RosterEntry) -> bool:
        if entry.node == self.ctx.me.node:
            return True
        peer = self.ctx.peers.get(entry.node)
        return peer is not None and peer.status is not None and peer.status.run == self.ledger.run

    def _situation(self, reachable: int, *, is_ready: bool) -> Situation:
        ctx, ledger, acceptor = self.ctx, self.ledger, self.acceptor
        lease, until = acceptor.lease, acceptor.free_since
        if lease is not None and lease.ballot.node == ctx.me.node:
            lease = None
        if lease is not None:
            until = lease.until(ledger.spec.participation.round_cap)
        return Situation(
            me=ctx.me.node,
            order=self.order,
            reachable=reachable,
            candidates=lambda: self._candidates(is_ready=is_ready),
            needed=ledger.needed,
            eligible=ledger.holds,
            since=max(ledger.opened, self._gathered_at or 0.0, until),
            lease_holder=lease.ballot.node if lease is not None else "",
            lease_until=until,
            not_before=self.aggregator.not_before,
            rank_step=ctx.settings.rank_step,
            now=ctx.now,
        )

    def _candidates(self, *, is_ready: bool) -> list[Candidate]:
        ctx, roster, aggregator = self.ctx, self.ledger.roster, self.aggregator
        links = sum(ctx.is_linked(entry.node) for entry in roster)
        deliverable = ctx.count_seated(entry for entry in roster if entry.node not in ctx.unserved)
        is_out = aggregator.unable or aggregator.leaving_myself
        candidates = [
            Candidate(ctx.me.node, is_ready, links, not is_out and deliverable >= self.ledger.needed)
        ]
        for entry in roster:
            peer = ctx.peers.get(entry.node)
            if peer is not None and ctx.is_seated(entry):
                status = peer.status
                known = (status.ready, status.links) if status is not None else (False, 0)
                candidates.append(Candidate(entry.node, *known, self._is_able(peer)))
        return candidates

    def _is_able(self, peer: PeerView) -> bool:
        """Whether *peer* can bring the round to an end, as far as is known."""
        lacking = peer.lacking_since is not None and self.ctx.now - peer.lacking_since >= LACKING_SECONDS
        return not (peer.is_leaving or lacking or peer.undeliverable)
