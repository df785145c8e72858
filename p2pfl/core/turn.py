"""Collects what a member knows before it runs for election in the open round.

`p2pfl.core.election` makes the decision from this. A member also waits until a new run has a quorum, and
after a restart until it has heard which candidate is active.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.election import Candidate, ElectionSituation, decide_candidacy
from p2pfl.core.ledger import Ledger
from p2pfl.messages import RosterEntry

LACKING_SECONDS = 3.0
"""A member that lacks the last model for longer than this comes last: members that accepted it have it."""


@dataclass
class Turn:
    """One member's turn in one round; a new object is made for every round."""

    ctx: Context
    ledger: Ledger
    acceptor: Acceptor
    aggregator: Aggregator
    order: Sequence[str]
    """The roster's node ids by rank for this round."""
    is_resumed: bool = False
    """Whether this is the round in which the process started."""
    wake: float | None = None
    """When to call `consider` again if nothing happens; set by `consider`."""
    _gathered_at: float | None = None
    """When this member first saw a quorum in a run that has no commit yet."""
    _hears_until: float | None = None
    """End of the time to listen after a restart, which begins when this member first sees a quorum."""

    def consider(self, reachable: int, *, is_ready: bool) -> None:
        """Run for election if it is this member's turn.

        *reachable* counts the members that can take part; *is_ready* says whether this node's worker has
        loaded the run's task.
        """
        self.wake = None
        if self.aggregator.candidacy is not Candidacy.IDLE or not self._has_gathered():
            return
        if self.is_resumed and not self._has_listened(reachable):
            return
        verdict, reason, wake = decide_candidacy(self._situation(reachable, is_ready=is_ready))
        if verdict:
            has_lowest = self.ctx.policy.lowest(self.order, self.ctx.me.node)
            self.aggregator.run_for_election(reason, has_lowest=has_lowest)
        self.wake = earliest(self.wake, wake)

    def _has_gathered(self) -> bool:
        """Whether a quorum is in the run. Members receive record 0 and its model at different times.

        A candidate that runs before gets no answer, and the first in rank may enter after its turn.
        """
        if self.ledger.last is None and self._gathered_at is None:
            here = sum(map(self._is_in_run, self.ledger.roster))
            self._gathered_at = self.ctx.now if here >= self.ledger.needed else None
            return self._gathered_at is not None
        return True

    def _has_listened(self, reachable: int) -> bool:
        """Whether this member, restarted in the open round, had time to hear of an active candidate.

        An active candidate announces itself on each new link. Links come up one by one; a member that runs
        before they are up would take the round from a live candidate.
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

    def _situation(self, reachable: int, *, is_ready: bool) -> ElectionSituation:
        ctx, ledger, acceptor = self.ctx, self.ledger, self.acceptor
        lease, until = acceptor.lease, acceptor.free_since
        if lease is not None and lease.ballot.node == ctx.me.node:
            lease = None
        if lease is not None:
            until = lease.until(ledger.spec.participation.round_cap)
        return ElectionSituation(
            me=ctx.me.node,
            order=self.order,
            reachable=reachable,
            candidates=lambda: self._candidates(is_ready=is_ready),
            needed=ledger.needed,
            eligible=ledger.holds and not ctx.exclusion(ctx.me.node),
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
            if peer is not None and ctx.is_seated(entry) and not ctx.exclusion(entry.node):
                status = peer.status
                known = (status.ready, status.links) if status is not None else (False, 0)
                candidates.append(Candidate(entry.node, *known, self._is_able(peer)))
        return candidates

    def _is_able(self, peer: PeerView) -> bool:
        """Whether *peer* can complete the round, as far as this member knows."""
        lacking = peer.lacking_since is not None and self.ctx.now - peer.lacking_since >= LACKING_SECONDS
        return not (peer.is_leaving or lacking or peer.undeliverable)
