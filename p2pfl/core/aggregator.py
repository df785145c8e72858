"""The candidate's half of a round: stand, collect, average, propose, commit (Paxos proposer).

One `Aggregator` lives for one round of one node; it is idle until it stands. It moves along the rows of
`TRANSITIONS`; giving up is always possible and always said (YIELD), so that nobody leaves time to a candidate
that has stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection as AnyCollection
from dataclasses import dataclass, field
from enum import Enum

from p2pfl import events
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.collection import (
    Awaited,
    Closing,
    Collection,
    Contribution,
    Progress,
    Stage,
    decide_closing,
    judge,
)
from p2pfl.core.context import Context, earliest
from p2pfl.core.effects import Average, Fetch, Fold
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import FIRST_ATTEMPT
from p2pfl.core.proposal import Draft
from p2pfl.core.roster import contains, sampled, selection
from p2pfl.messages import (
    Accept,
    Accepted,
    Ballot,
    Collect,
    Commit,
    Member,
    Noted,
    Prepare,
    Promise,
    Record,
    Submit,
    Yield,
    record_digest,
)


class Stand(Enum):
    """Where a candidacy is."""

    IDLE = "idle"
    STANDING = "asks for votes"
    ADOPTING = "pulls the value it must propose again"
    COLLECTING = "gathers updates"
    AVERAGING = "averages"
    PROPOSING = "asks for acceptance"


FOLDS_AHEAD = 2
"""Updates given away of which this node has not been told that they are folded. A worker's node tells so when
the worker has been given one (`runtime.work`), so this binds whoever takes longer."""

TRANSITIONS: dict[Stand, frozenset[Stand]] = {
    Stand.IDLE: frozenset({Stand.STANDING}),
    Stand.STANDING: frozenset({Stand.ADOPTING, Stand.COLLECTING, Stand.IDLE}),
    Stand.ADOPTING: frozenset({Stand.PROPOSING, Stand.IDLE}),
    Stand.COLLECTING: frozenset({Stand.AVERAGING, Stand.PROPOSING, Stand.IDLE}),
    Stand.AVERAGING: frozenset({Stand.PROPOSING, Stand.IDLE}),
    Stand.PROPOSING: frozenset({Stand.IDLE}),
}
"""From where to where. IDLE is reached by giving up; a commit ends the whole object."""


@dataclass
class Aggregator:
    """The node's own candidacy in the open round."""

    ctx: Context
    ledger: Ledger
    acceptor: Acceptor
    commit: Callable[[Commit], None]
    """Called with the proof when a quorum has accepted this node's proposal."""
    wishes: AnyCollection[str]
    """"pause", "end" and "end-now" as operators uttered them; shared with the node."""
    stand_state: Stand = Stand.IDLE
    ballot: Ballot | None = None
    promises: dict[str, Promise] = field(default_factory=dict)
    collection: Collection = field(default_factory=lambda: Collection(set(), 0))
    proposal: Record | None = None
    accepted_by: set[Member] = field(default_factory=set)
    highest_seen: int = 0
    """The highest attempt this node was refused with."""
    failures: int = 0
    """Ballots given up in this round; doubles the backoff."""
    not_before: float = 0.0
    unable: bool = False
    """Whether this node yielded in this round for a reason of its own: it stands last."""
    leaving_myself: bool = False
    """Whether this node is leaving: it drops itself from the roster it proposes."""
    resend_at: float | None = None
    wake: float | None = None

    # --- standing -------------------------------------------------------------------------------------------

    def stand(self, reason: str, *, has_lowest: bool = False) -> None:
        """Begin a new ballot, higher than every one seen; or the lowest, which needs no votes.

        It is this node's if it *has_lowest*, as long as it has stood in this round neither before nor after a
        restart, and has heard of no other ballot.
        """
        is_free = self.acceptor.promised is None and not (self.highest_seen or self.failures)
        is_lowest = has_lowest and is_free
        if is_lowest:
            attempt = FIRST_ATTEMPT
        else:
            seen = max(self.highest_seen, FIRST_ATTEMPT)
            attempt = self.ctx.policy.attempt(self.acceptor.promised, seen)
        self.ballot = Ballot(attempt, self.ctx.me.node)
        self._move(Stand.STANDING)
        self.ctx.tell(events.Standing(self.ledger.round + 1, attempt, reason))
        self.promises = {self.ctx.me.node: self.acceptor.promise_self(self.ballot)}
        if is_lowest:
            # Nobody else's vote is asked for, so members hear of it while the disk works. No value is
            # proposed before it has done so: what a crash takes was a ballot without one.
            self._elected()
            self.acceptor.save_promise()
        else:
            self.acceptor.save_promise()
            self._send_unanswered()
            self._count_promises()

    def promise(self, member: Member, message: Promise) -> None:
        """Count a vote."""
        if self.stand_state is not Stand.STANDING or message.ballot != self.ballot:
            return
        if contains(self.ledger.roster, member):
            self.promises[member.node] = message
            self._count_promises()

    def _count_promises(self) -> None:
        if len(self.promises) >= self.ledger.needed:
            self._elected()

    def _elected(self) -> None:
        """Adopt what a promise named, or collect."""
        assert self.ballot is not None
        self.ctx.tell(
            events.Elected(
                self.ledger.round + 1,
                self.ballot.attempt,
                self.ctx.name,
                self.ctx.me.node,
                len(self.promises),
                self.ledger.next_kind,
            )
        )
        found = [
            (promise.accepted_ballot, promise.accepted)
            for promise in self.promises.values()
            if promise.accepted_ballot is not None and promise.accepted is not None
        ]
        adopted = self.ctx.policy.adopt(found)
        if adopted is not None:
            self.proposal = adopted
            self._move(Stand.ADOPTING)
            sources = (node for node, promise in self.promises.items() if promise.accepted == adopted)
            everybody = (entry.node for entry in self.ledger.roster)
            nodes = tuple(dict.fromkeys(node for node in (*sources, *everybody) if node != self.ctx.me.node))
            layout, parent = self.ledger.founding.layout, self.ledger.model
            self.ctx.do(Fetch(adopted.model, layout, nodes, parent=parent))
            return
        self._move(Stand.COLLECTING)
        run, spec = self.ledger.run, self.ledger.spec
        chosen = selection(run, self.ledger.round + 1, self.ledger.roster, spec.sample)
        selected = set(chosen) if self.ledger.next_kind == "train" else set()
        self.collection = Collection(selected, min(spec.min_updates, len(selected)))
        self._send_unanswered()

    # --- collecting -----------------------------------------------------------------------------------------

    def submit(self, member: Member, message: Submit) -> None:
        """Take a member's contribution; an update is pulled before it counts."""
        if self.stand_state is not Stand.COLLECTING or message.ballot != self.ballot:
            return
        if not contains(self.ledger.roster, member) or message.previous != self.ledger.digest:
            return
        known = self.ctx.policy.known(self.collection.contributions, member.node)
        if known is not None:
            known.evaluation = known.evaluation or message.evaluation
            if known.stage.is_final:
                self._note(member.node, known)
            return
        contribution = judge(
            member, message, self.ledger.founding.max_samples, is_training=self.ledger.next_kind == "train"
        )
        self.collection.contributions[member.node] = contribution
        if contribution.stage is Stage.ANNOUNCED:
            update = contribution.update
            assert update is not None
            others = (entry.node for entry in self.ledger.roster)
            sources = tuple(
                dict.fromkeys(node for node in (member.node, *others) if node != self.ctx.me.node)
            )
            layout, parent = self.ledger.founding.layout, self.ledger.model
            self.ctx.do(Fetch(update.digest, layout, sources, durable=False, parent=parent))
        else:
            self._note(member.node, contribution)

    def _note(self, node: str, contribution: Contribution) -> None:
        """Tell a member what became of its contribution; twice is harmless."""
        assert self.ballot is not None
        if contribution.stage is Stage.REFUSED:
            self.ctx.tell(
                events.UpdateRefused(self.ledger.round + 1, self.ctx.name_of(node), contribution.reason)
            )
        refused = contribution.reason if contribution.stage is Stage.REFUSED else ""
        self.ctx.send(node, Noted(self.ledger.run, self.ledger.round + 1, self.ballot, refused))

    def blob_ready(self, digest: str, *, durable: bool) -> None:
        """Go on with whatever waited for blob *digest*: a model must be durable, an update need not."""
        if self.stand_state is Stand.ADOPTING and self.proposal is not None and self.proposal.model == digest:
            if durable:
                self._propose(self.proposal, adopted=True)
        elif self.stand_state is Stand.COLLECTING:
            for contribution in self.collection.with_blob(digest):
                contribution.stage = Stage.READY
            self._fold_next()

    def blob_failed(self, digest: str, reason: str, *, invalid: bool) -> None:
        """Refuse an invalid update; forget one that cannot be had for now, its member announces it again."""
        if self.stand_state is Stand.ADOPTING and self.proposal is not None and self.proposal.model == digest:
            self.give_up(f"the model it must propose again cannot be pulled: {reason}"[:300])
        elif self.stand_state is Stand.COLLECTING:
            contributions = self.collection.contributions
            waiting = self.collection.with_blob(digest)
            for node in [node for node, one in contributions.items() if one in waiting]:
                if invalid:
                    contributions[node].stage, contributions[node].reason = Stage.REFUSED, reason[:300]
                    self._note(node, contributions[node])
                else:
                    del contributions[node]

    def _fold_next(self) -> None:
        """Give the worker its next updates: while it adds one, another lies ready for it."""
        folding = self.collection.folding
        for node in self.collection.at(Stage.READY):
            if len(folding) == FOLDS_AHEAD:
                return
            if node in folding:
                continue
            update = self.collection.contributions[node].update
            assert update is not None
            assert self.ballot is not None
            folding.append(node)
            self.ctx.do(
                Fold(self.ledger.run, self.ledger.round + 1, self.ballot, update.digest, update.samples)
            )

    def folded(self, ballot: Ballot, digest: str) -> None:
        """Note that update *digest* is in the sum, and fold the next one."""
        if self.stand_state is not Stand.COLLECTING or ballot != self.ballot:
            return
        node = self.collection.folded(digest)
        if node is None:
            return
        contribution = self.collection.contributions[node]
        contribution.stage = Stage.FOLDED
        assert contribution.update is not None
        self._note(node, contribution)
        self.ctx.tell(
            events.UpdateCounted(self.ledger.round + 1, self.ctx.name_of(node), contribution.update.samples)
        )
        self._fold_next()

    # --- closing --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do what time or the others' absence makes due."""
        self.wake = None
        if self.stand_state is Stand.COLLECTING:
            self._consider_closing()
        if self.resend_at is not None and self.ctx.now >= self.resend_at:
            self._send_unanswered()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.wake, self.resend_at)

    def _consider_closing(self) -> None:
        verdict, reason, self.wake = decide_closing(self._progress())
        if verdict is Closing.MORE:
            order = sampled(
                self.ledger.run, self.ledger.round + 1, self.ledger.roster, self.ledger.spec.sample
            )
            more = next(
                (n for n in order if n not in self.collection.selected and self.ctx.is_reachable(n)), None
            )
            if more is not None and self.ledger.next_kind == "train":
                self.collection.selected.add(more)
                self.collection.contributions.pop(more, None)
                self._send_collect(more)
                return
            verdict = Closing.CLOSE
        if verdict is Closing.CLOSE:
            self._close(reason)

    def _progress(self) -> Progress:
        ctx, ledger, collection = self.ctx, self.ledger, self.collection
        awaited = []
        for entry in ledger.roster:
            node = entry.node
            if collection.is_done(node) or ctx.is_gone(entry) or ctx.is_leaving(node):
                continue
            gone_at = None if ctx.is_reachable(node) else ctx.gone_at(node)
            awaited.append(Awaited(node, self._expected_at(node), gone_at))
        pending = collection.at(Stage.READY)
        return Progress(
            now=ctx.now,
            awaited=tuple(one for one in awaited if one.node not in pending),
            unfolded=len(pending),
            folded=len(collection.at(Stage.FOLDED)),
            enough=collection.enough,
            cap_at=ledger.opened + ledger.spec.round_cap,
            has_quorum=sum(ctx.is_reachable(entry.node) for entry in ledger.roster) >= ledger.needed,
        )

    def _expected_at(self, node: str) -> float | None:
        """Return when a member's straggler deadline passes.

        A generous multiple of what it predicts, in all and from its last step on: whoever works is never cut,
        however late it began.
        """
        peer = self.ctx.peers.get(node)
        status = peer.status if peer is not None else None
        if peer is None or status is None or status.round != self.ledger.round or status.predicted <= 0:
            return None
        factor = self.ctx.settings.straggler_factor
        in_all = self.ledger.opened + factor * status.predicted
        from_last_step = peer.moved_at + factor * status.predicted * (1 - status.progress)
        return max(in_all, from_last_step) + self.ctx.settings.resend

    def _close(self, reason: str) -> None:
        assert self.ballot is not None
        if self.collection.at(Stage.FOLDED):
            self._move(Stand.AVERAGING)
            ledger = self.ledger
            self.ctx.do(Average(ledger.run, ledger.round + 1, self.ballot, ledger.model))
        elif self.ledger.next_kind == "evaluate":
            self._propose(self._draft(None, note=""), adopted=False)
        else:
            self._propose(self._draft(None, note=f"no usable update: {reason}"), adopted=False)

    def averaged(self, ballot: Ballot, digest: str | None) -> None:
        """Propose the average; where it is not finite, the parent's model with the reason (rule 8)."""
        if self.stand_state is not Stand.AVERAGING or ballot != self.ballot:
            return
        note = "" if digest is not None else "the average was not finite: the parent's model stays"
        self._propose(self._draft(digest, note), adopted=False)

    # --- proposing ------------------------------------------------------------------------------------------

    def _draft(self, model: str | None, note: str) -> Record:
        assert self.ballot is not None
        draft = Draft(self.ledger, self.collection, self.ballot, self.wishes, self.leaving_myself)
        return draft.record(self.ctx, model, note)

    def _propose(self, record: Record, *, adopted: bool) -> None:
        """Ask everybody at once to accept *record*, this node too.

        Its own acceptance counts when the model is durable here, as another's does there. Until then nothing
        keeps it from proposing: the ballot itself is durable, and never carries another value.
        """
        ballot = self.ballot
        assert ballot is not None
        if not self.acceptor.may_vote_for(ballot):
            self.give_up("a higher ballot was promised")
            return
        self.proposal, self.accepted_by = record, set()
        self._move(Stand.PROPOSING)
        self.ctx.tell(
            events.Proposed(record.round, ballot.attempt, record.model, len(record.updates), adopted)
        )
        self._send_unanswered()

    def accepted(self, member: Member, message: Accepted) -> None:
        """Count an acceptance of this node's own ballot."""
        if self.stand_state is not Stand.PROPOSING or message.ballot != self.ballot or self.proposal is None:
            return
        if contains(self.ledger.roster, member) and message.record == record_digest(self.proposal):
            self.accepted_by.add(member)
            self._count_accepted()

    def _count_accepted(self) -> None:
        if len(self.accepted_by) >= self.ledger.needed:
            assert self.proposal is not None
            assert self.ballot is not None
            self.commit(Commit(self.proposal, self.ballot, tuple(sorted(self.accepted_by))))

    # --- giving up ------------------------------------------------------------------------------------------

    def refused(self, promised: Ballot, ballot: Ballot) -> None:
        """Lose against a higher ballot: give this one up and back off (rule 3)."""
        self.highest_seen = max(self.highest_seen, promised.attempt)
        if self.stand_state is not Stand.IDLE and ballot == self.ballot:
            self.give_up("a higher ballot was promised", able=True)

    def give_up(self, reason: str, *, able: bool = False) -> None:
        """Leave the candidacy to others, telling them; *able* says that nothing is wrong with this node."""
        if self.stand_state is Stand.IDLE or self.ballot is None:
            return
        self.unable = self.unable or not able
        settings = self.ctx.settings
        self.not_before = self.ctx.now + min(settings.backoff * 2**self.failures, settings.backoff_most)
        self.failures += 1
        message = Yield(self.ledger.run, self.ledger.round + 1, self.ballot, reason)
        for entry in self.ledger.roster:
            self.ctx.send(entry.node, message)
        self.ctx.tell(
            events.Yielded(
                self.ledger.round + 1, self.ballot.attempt, self.ctx.name, reason, self.ledger.next_kind
            )
        )
        self._move(Stand.IDLE)
        self.ballot, self.proposal, self.resend_at = None, None, None

    # --- sending --------------------------------------------------------------------------------------------

    def linked(self, node: str) -> None:
        """Say to a newly linked member what it may have missed (rule 4)."""
        if self.stand_state is not Stand.IDLE and any(entry.node == node for entry in self.ledger.roster):
            self._send_to(node)

    def _send_unanswered(self) -> None:
        self.resend_at = self.ctx.now + self.ctx.settings.resend
        for entry in self.ledger.roster:
            if entry.node != self.ctx.me.node:
                self._send_to(entry.node)
        if self.stand_state is Stand.PROPOSING and self.ctx.me not in self.accepted_by:
            self.acceptor.propose(self.ctx.me, self._accept_message())

    def _send_to(self, node: str) -> None:
        run, round_, ballot = self.ledger.run, self.ledger.round + 1, self.ballot
        assert ballot is not None
        if self.stand_state is Stand.STANDING and node not in self.promises:
            self.ctx.send(node, Prepare(run, round_, ballot))
        elif self.stand_state is Stand.COLLECTING and node not in self.collection.contributions:
            self._send_collect(node)
        elif self.stand_state is Stand.PROPOSING and all(member.node != node for member in self.accepted_by):
            self.ctx.send(node, self._accept_message())

    def _accept_message(self) -> Accept:
        assert self.ballot is not None
        assert self.proposal is not None
        return Accept(self.ledger.run, self.ledger.round + 1, self.ballot, self.proposal)

    def _send_collect(self, node: str) -> None:
        assert self.ballot is not None
        message = Collect(
            self.ledger.run, self.ledger.round + 1, self.ballot, node in self.collection.selected
        )
        self.ctx.send(node, message)

    def pinned(self) -> set[str]:
        """Return the blobs this candidacy works on."""
        pins = {one.update.digest for one in self.collection.contributions.values() if one.update is not None}
        return pins | ({self.proposal.model} if self.proposal else set())

    def _move(self, state: Stand) -> None:
        if state not in TRANSITIONS[self.stand_state]:
            raise AssertionError(f"an aggregator cannot go from {self.stand_state.name} to {state.name}")
        self.stand_state = state
