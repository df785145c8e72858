"""The Paxos acceptor: one member's promises and acceptances in the open round.

Every vote is a `Save...` effect followed by a `Send` effect, so no vote leaves before it is on disk. Before
it accepts a proposal, the acceptor pulls the record's blobs. When the blobs are durable it checks the ballot
again, because it may have promised a higher ballot in the meantime (rule "Second check"). A proposal of this
node itself is treated like any other: other members can pull the new model while this node still flushes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.effects import SaveAccepted, SavePromise, fetch_record
from p2pfl.core.inputs import BlobFailed
from p2pfl.core.lease import LeaderLease, LeaseStep, renew
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import keeps_promise
from p2pfl.core.saved import Vote
from p2pfl.messages import (
    Accept,
    Accepted,
    Ballot,
    Member,
    Prepare,
    Promise,
    Record,
    Refuse,
    Undelivered,
    record_digest,
)


@dataclass
class Acceptor:
    """Promises and acceptances of this member in the round after the ledger's last."""

    ctx: Context
    ledger: Ledger
    hand_in: Callable[[Accepted], None]
    """Passes an acceptance of this node's own proposal to its own aggregator."""
    promised: Ballot | None = None
    accepted_ballot: Ballot | None = None
    accepted: Record | None = None
    pending: Accept | None = None
    """The proposal whose blobs are being pulled."""
    lease: LeaderLease | None = None
    """Lease of the highest live candidate; None without one. See `p2pfl.core.election`."""
    free_since: float = 0.0
    """When the last lease ended early."""
    _before: LeaderLease | None = None
    """The lease that ended early: a candidate that is heard again continues it."""

    @classmethod
    def open(
        cls, ctx: Context, ledger: Ledger, hand_in: Callable[[Accepted], None], vote: Vote | None
    ) -> Acceptor:
        """Begin the open round with the votes that the journal holds for it."""
        if vote is None or vote.round != ledger.round + 1:
            return cls(ctx, ledger, hand_in)
        return cls(ctx, ledger, hand_in, vote.promised, vote.accepted_ballot, vote.accepted)

    @property
    def round(self) -> int:
        """The round voted in."""
        return self.ledger.round + 1

    def vote(self) -> Vote:
        """Return the votes of this round, to be kept when this node moves to another run."""
        return Vote(self.round, self.promised, self.accepted_ballot, self.accepted)

    def pinned(self) -> set[str]:
        """Return the blobs an undecided vote depends on."""
        records = (self.accepted, self.pending.record if self.pending else None)
        return {digest for record in records if record is not None for digest in record.blobs.digests}

    def may_vote_for(self, ballot: Ballot) -> bool:
        """Whether no higher ballot than *ballot* is promised."""
        return keeps_promise(self.promised, ballot)

    # --- phase 1 --------------------------------------------------------------------------------------------

    def promise_self(self, ballot: Ballot) -> Promise:
        """Vote for this node's own candidacy; the caller calls `save_promise` next."""
        self._promise(ballot)
        return self._promise_message(ballot)

    def save_promise(self) -> None:
        """Write the promise to disk before any later effect."""
        assert self.promised is not None
        self.ctx.do(SavePromise(self.ledger.run, self.round, self.promised, self.ctx.votes))

    def prepare(self, member: Member, message: Prepare) -> None:
        """Answer a candidate of the open round: promise, or refuse naming the higher ballot."""
        ballot = message.ballot
        if not self.may_vote_for(ballot):
            self._refuse(member.node, ballot)
            return
        if ballot != self.promised:
            self._promise(ballot)
            self.save_promise()
        self.defer_to(ballot, LeaseStep.STANDS)
        self.ctx.send(member.node, self._promise_message(ballot))

    def _promise(self, ballot: Ballot) -> None:
        self.promised, self.lease = ballot, None
        self.ctx.votes += 1

    def _promise_message(self, ballot: Ballot) -> Promise:
        vote = self.ctx.sign(self.ledger.run, self.round, ballot)
        return Promise(self.ledger.run, self.round, ballot, self.accepted_ballot, self.accepted, vote)

    def _refuse(self, node: str, ballot: Ballot) -> None:
        assert self.promised is not None
        self.ctx.send(node, Refuse(self.ledger.run, self.round, ballot, self.promised))

    def exclude(self, node: str) -> None:
        """Vote for *node* no more: drop its proposal that is being pulled, and its lease."""
        self.end_lease(node)
        if self.pending is not None and self.pending.ballot.node == node:
            self.pending = None

    # --- phase 2 --------------------------------------------------------------------------------------------

    def propose(self, member: Member, message: Accept) -> None:
        """Begin to pull the blobs of a proposal, or answer at once if it is already accepted."""
        ballot, record = message.ballot, message.record
        if not self.may_vote_for(ballot):
            self._refuse(member.node, ballot)
            return
        self.defer_to(ballot, LeaseStep.PROPOSES)
        if self.accepted is not None and self.accepted_ballot == ballot:
            self._answer_accepted(ballot, self.accepted)
            return
        if not self.ledger.succeeds(record):
            name = self.ctx.name_of(member.node)
            flaw = self.ledger.flaw(record)
            what = f"that does not fit the run: {flaw}" if flaw else "that does not follow"
            self.ctx.warn(f"{name} proposed, after record {self.ledger.round}, a record {what}")
            return
        if self.pending is not None and self.pending.ballot > ballot:
            return
        self.pending = message
        others = (entry.node for entry in self.ledger.roster)
        sources = dict.fromkeys(
            node for node in (member.node, ballot.node, *others) if node != self.ctx.me.node
        )
        parent = self.ledger.model
        self.ctx.do(fetch_record(record.blobs, self.ledger.genesis, tuple(sources), parent))

    def blob_ready(self, digests: tuple[str, ...]) -> None:
        """Accept the pending proposal if *digests* are its blobs and no higher ballot is promised."""
        pending = self.pending
        if pending is None or pending.record.blobs.digests != digests:
            return
        self.pending = None
        if not self.ctx.policy.permits(self.promised, pending.ballot):
            self._refuse(pending.ballot.node, pending.ballot)
            return
        if not self.ledger.succeeds(pending.record):
            return
        self._accept(pending.ballot, pending.record)
        if pending.ballot.node != self.ctx.me.node:
            self.ctx.tell(
                events.RecordAccepted(
                    self.round,
                    pending.ballot.attempt,
                    self.ctx.name_of(pending.ballot.node),
                    pending.record.model,
                )
            )
        self._answer_accepted(pending.ballot, pending.record)

    def blob_failed(self, failed: BlobFailed) -> None:
        """Drop the pending proposal and report why; its aggregator repeats it while that can help."""
        if self.pending is not None and failed.is_of(self.pending.record.blobs.digests):
            ballot, self.pending = self.pending.ballot, None
            if ballot.node != self.ctx.me.node:
                reason = failed.reason
                self.ctx.note_undeliverable(ballot.node, reason)
                self.ctx.send(ballot.node, Undelivered(self.ledger.run, self.round, ballot, reason[:300]))

    def blob_progressed(self, digest: str) -> None:
        """Renew the lease of the candidate whose model, or its state, is being pulled."""
        if self.pending is not None and digest in self.pending.record.blobs.digests:
            self.progressed(self.pending.ballot)

    def _accept(self, ballot: Ballot, record: Record) -> None:
        self.promised, self.accepted_ballot, self.accepted = ballot, ballot, record
        self.ctx.votes += 1
        self.ctx.do(SaveAccepted(self.ledger.run, self.round, ballot, record, self.ctx.votes))

    def _answer_accepted(self, ballot: Ballot, record: Record) -> None:
        digest = record_digest(record)
        vote = self.ctx.sign(self.ledger.run, self.round, ballot, digest)
        answer = Accepted(self.ledger.run, self.round, ballot, digest, vote)
        if ballot.node == self.ctx.me.node:
            self.hand_in(answer)
        else:
            self.ctx.send(ballot.node, answer)

    # --- leader lease ---------------------------------------------------------------------------------------

    def defer_to(self, ballot: Ballot, step: LeaseStep) -> None:
        """Grant a lease to the live candidate of *ballot*, unless a higher ballot is known.

        A member that missed the PREPARE grants it when it hears of the election.
        """
        heard = self.lease.ballot if self.lease is not None else None
        known = max((one for one in (self.promised, heard) if one is not None), default=ballot)
        if ballot >= known:
            before = self.lease or self._before
            self.lease = self.ctx.policy.lease(before, ballot, step, self.ctx.now)

    def progressed(self, ballot: Ballot) -> None:
        """Renew the lease of the candidate of *ballot*, because the round made progress."""
        if self.lease is not None and self.lease.ballot == ballot:
            self.lease = renew(self.lease, self.ctx.now)

    def end_lease(self, node: str) -> bool:
        """End the lease of *node*: its link ended or it stepped down. Return whether it held one."""
        if self.lease is not None and self.lease.ballot.node == node:
            self.lease, self._before = None, self.lease
            self.free_since = self.ctx.now
            return True
        return False
