"""The candidate's half of a round: stand, collect, aggregate, propose, commit (Paxos proposer).

One `Aggregator` lives for one round of one node; it is idle until it stands. It moves along the rows of
`TRANSITIONS`; giving up is always possible and always said (YIELD), so that nobody leaves time to a candidate
that has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Collection as AnyCollection
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from p2pfl import events
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.collection import Closing, Collection, decide_closing
from p2pfl.core.context import Context, earliest
from p2pfl.core.effects import Aggregate, Fetch, SaveSeen
from p2pfl.core.gathering import Gathering
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import FIRST_ATTEMPT, MAX_ATTEMPT_GAP
from p2pfl.core.proposal import Draft
from p2pfl.core.roster import contains
from p2pfl.messages import (
    MAX_ATTEMPT,
    Accept,
    Accepted,
    Ballot,
    Collect,
    Commit,
    Member,
    Prepare,
    Promise,
    Record,
    SignedVote,
    StepDown,
    Submit,
    Undelivered,
    UpdateEntry,
    record_digest,
)
from p2pfl.proofs import CastVote, cast_of
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    UnreadableUpdate,
    WeightedUpdate,
)


class Candidacy(Enum):
    """Where a candidacy is."""

    IDLE = "idle"
    PREPARING = "asks for votes"
    ADOPTING = "pulls the value it must propose again"
    COLLECTING = "gathers updates"
    AGGREGATING = "aggregates"
    PROPOSING = "asks for acceptance"


TRANSITIONS: dict[Candidacy, frozenset[Candidacy]] = {
    Candidacy.IDLE: frozenset({Candidacy.PREPARING}),
    Candidacy.PREPARING: frozenset({Candidacy.ADOPTING, Candidacy.COLLECTING, Candidacy.IDLE}),
    Candidacy.ADOPTING: frozenset({Candidacy.PROPOSING, Candidacy.PREPARING, Candidacy.IDLE}),
    Candidacy.COLLECTING: frozenset({Candidacy.AGGREGATING, Candidacy.PROPOSING, Candidacy.IDLE}),
    Candidacy.AGGREGATING: frozenset({Candidacy.PROPOSING, Candidacy.IDLE}),
    Candidacy.PROPOSING: frozenset({Candidacy.IDLE}),
}
"""From where to where. IDLE is reached by giving up; a commit ends the whole object."""


def decide_going_on(*, possible: int, needed: int, undelivered: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether a proposal can still be accepted, and why not.

    *possible* members may accept it, *needed* have to; *undelivered* are those, by name, that cannot have its
    model, and why.
    """
    if possible >= needed or not undelivered:
        return True, f"{possible} members can accept it, {needed} are needed"
    return (
        False,
        f"its model could not be pulled by {', '.join(undelivered)}: {next(iter(undelivered.values()))}",
    )


@dataclass
class Aggregator:
    """The node's own candidacy in the open round."""

    ctx: Context
    ledger: Ledger
    acceptor: Acceptor
    commit: Callable[[Commit], None]
    """Called with the proof when a quorum has accepted this node's proposal."""
    requests: AnyCollection[str]
    """"pause", "end" and "end-now" as operators uttered them; shared with the node."""
    candidacy: Candidacy = Candidacy.IDLE
    ballot: Ballot | None = None
    promises: dict[str, Promise] = field(default_factory=dict)
    gathering: Gathering | None = None
    """The updates of the ballot for which this node was elected last; None before."""
    job: AggregationJob | None = None
    """The aggregation asked for last."""
    proposal: Record | None = None
    accepted_by: dict[Member, SignedVote] = field(default_factory=dict)
    undelivered: dict[str, str] = field(default_factory=dict)
    """By member: why it cannot have the model of this ballot's record, as it said."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Models of accepted records that could not be had in this round, and why."""
    told_held: str = ""
    """The reason for waiting that was told last."""
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
        if attempt > MAX_ATTEMPT:
            self.ctx.complain(
                self.ctx.me.node,
                "attempts",
                f"this device cannot stand as aggregator of record {self.ledger.round + 1}: all "
                f"{MAX_ATTEMPT} attempts are used up. Another member may have sent nonsense: see the logs",
            )
            self.not_before = self.ctx.now + self.ctx.settings.backoff_most
            return
        self.ballot, self.accepted_by, self.unusable = Ballot(attempt, self.ctx.me.node), {}, {}
        self._move(Candidacy.PREPARING)
        self.ctx.tell(events.ElectionStarted(self.ledger.round + 1, attempt, reason))
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

    @property
    def highest_known(self) -> int:
        """The highest attempt this member knows of in the round."""
        acceptor = self.acceptor
        deferred = acceptor.lease.ballot if acceptor.lease is not None else None
        known = (one.attempt for one in (acceptor.promised, deferred) if one is not None)
        return max(self.highest_seen, FIRST_ATTEMPT, *known)

    def promise(self, member: Member, message: Promise) -> None:
        """Count a vote."""
        if self.candidacy is not Candidacy.PREPARING or message.ballot != self.ballot:
            return
        if contains(self.ledger.roster, member):
            self.promises[member.node] = message
            self._count_promises()

    def _count_promises(self) -> None:
        if len(self._counted()) >= self.ledger.needed:
            self._save_seen(at_once=True)
            self._elected()

    def _counted(self) -> dict[str, Promise]:
        """Return the promises that elect: any quorum of them does, so those are left out whose value is lost.

        A value that was decided is named in every quorum: where one names only others, it was not.
        """
        return {
            node: promise
            for node, promise in self.promises.items()
            if promise.accepted is None or promise.accepted.model not in self.unusable
        }

    def _save_seen(self, *, at_once: bool) -> None:
        """Have the votes this candidacy got on disk: *at_once* where it goes on by them."""
        me = self.ctx.me.node
        casts = [cast_of(promise) for node, promise in self.promises.items() if node != me]
        if self.ballot is not None and self.proposal is not None:
            digest = record_digest(self.proposal)
            for member, vote in self.accepted_by.items():
                if member.node != me:
                    casts.append(CastVote(self.ledger.run, self.ledger.round + 1, self.ballot, digest, vote))
        if casts:
            self.ctx.do(SaveSeen(tuple(casts), at_once))

    def _elected(self) -> None:
        """Adopt what a promise named, or collect."""
        assert self.ballot is not None
        counted = self._counted()
        self.ctx.tell(
            events.Elected(
                self.ledger.round + 1,
                self.ballot.attempt,
                self.ctx.name,
                self.ctx.me.node,
                len(counted),
                self.ledger.next_kind,
            )
        )
        found = [
            (promise.accepted_ballot, promise.accepted)
            for promise in counted.values()
            if promise.accepted_ballot is not None and promise.accepted is not None
        ]
        adopted = self.ctx.policy.adopt(found)
        if adopted is not None:
            self.proposal = adopted
            self._move(Candidacy.ADOPTING)
            sources = (node for node, promise in counted.items() if promise.accepted == adopted)
            everybody = (entry.node for entry in self.ledger.roster)
            nodes = tuple(dict.fromkeys(node for node in (*sources, *everybody) if node != self.ctx.me.node))
            layout, parent = self.ledger.layout("model"), self.ledger.model
            self.ctx.do(Fetch(adopted.model, layout, nodes, parent=parent))
            return
        self._move(Candidacy.COLLECTING)
        self.gathering = Gathering.begin(self.ctx, self.ledger, self.ballot)
        self._send_unanswered()

    # --- collecting -----------------------------------------------------------------------------------------

    @property
    def _gathering_now(self) -> Gathering | None:
        return self.gathering if self.candidacy is Candidacy.COLLECTING else None

    @property
    def collection(self) -> Collection:
        """What was gathered in the ballot for which this node was elected last."""
        return self.gathering.collection if self.gathering is not None else Collection(set(), 0)

    def submit(self, member: Member, message: Submit) -> None:
        """Take a member's contribution; an update is pulled before it counts."""
        gathering = self._gathering_now
        if gathering is not None and message.ballot == self.ballot:
            gathering.submit(member, message)

    def blob_ready(self, digest: str, *, durable: bool) -> None:
        """Go on with whatever waited for blob *digest*: a model must be durable, an update need not."""
        if (
            self.candidacy is Candidacy.ADOPTING
            and self.proposal is not None
            and self.proposal.model == digest
        ):
            if durable:
                self._propose(self.proposal, adopted=True)
        elif (gathering := self._gathering_now) is not None:
            gathering.blob_ready(digest)

    def blob_failed(self, digest: str, reason: str, *, invalid: bool) -> None:
        """Refuse an update that is invalid or cannot be had; for a while its member may announce it again."""
        if (
            self.candidacy is Candidacy.ADOPTING
            and self.proposal is not None
            and self.proposal.model == digest
        ):
            self._do_without(digest, reason)
        elif (gathering := self._gathering_now) is not None:
            gathering.blob_failed(digest, reason, invalid=invalid)

    def _do_without(self, model: str, reason: str) -> None:
        """Go by the votes of others than those who accepted *model*, which cannot be had; else give up."""
        self.unusable[model] = reason
        names_it = {
            node
            for node, promise in self.promises.items()
            if promise.accepted is not None and promise.accepted.model == model
        }
        others = [entry for entry in self.ledger.roster if entry.node not in names_it]
        if self.ctx.count_seated(others) < self.ledger.needed:
            self.give_up(f"the model it must propose again cannot be pulled: {reason}"[:300])
            return
        self.proposal = None
        self._move(Candidacy.PREPARING)
        self._send_unanswered()
        self._count_promises()

    # --- closing --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do what time or the others' absence makes due."""
        self.wake = None
        if self.candidacy is Candidacy.COLLECTING:
            self._consider_closing()
        if self.resend_at is not None and self.ctx.now >= self.resend_at:
            if self.candidacy is Candidacy.PREPARING and len(self.promises) >= self.ledger.needed:
                reason = next(iter(self.unusable.values()))
                self.give_up(f"too few others answer than those whose value cannot be pulled: {reason}"[:300])
            else:
                self._send_unanswered()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.wake, self.resend_at)

    def _consider_closing(self) -> None:
        gathering = self.gathering
        assert gathering is not None
        verdict, reason, self.wake = decide_closing(gathering.progress(self._held()))
        if verdict is Closing.MORE:
            more = gathering.select_more()
            if more is not None:
                self._send_collect(more)
                return
            verdict = Closing.CLOSE
        if verdict is Closing.CLOSE:
            self._close(reason)

    def _held(self) -> str:
        """Return why the round waits for members that are away; told once."""
        holds, reason = self._new_draft().decide_holding(self.ctx)
        if holds and reason != self.told_held:
            self.told_held = reason
            self.ctx.warn(reason)
        return reason if holds else ""

    def _close(self, reason: str) -> None:
        updates = self._counted_updates()
        if updates:
            self._move(Candidacy.AGGREGATING)
            self._aggregate(updates)
        elif self.ledger.next_kind == "evaluate":
            self._propose(self._draft(None, note=""), adopted=False)
        else:
            self._propose(self._draft(None, note=f"no usable update: {reason}"), adopted=False)

    def _counted_updates(self) -> tuple[UpdateEntry, ...]:
        return self.collection.counted(self.ctx.policy.order)

    def _aggregate(self, updates: tuple[UpdateEntry, ...]) -> None:
        """Have *updates* aggregated, in this order."""
        assert self.ballot is not None
        ledger = self.ledger
        weighted = tuple(WeightedUpdate(update.digest, update.samples) for update in updates)
        self.job = AggregationJob(
            ledger.run, ledger.round + 1, self.ballot, ledger.spec, ledger.model, weighted
        )
        self.ctx.do(Aggregate(self.job))

    def aggregated(self, job: AggregationJob, result: AggregationResult) -> None:
        """Propose the new model; where there is none, the parent's with the reason (rule 8).

        An update that could not be read is left out, and the others are aggregated again.
        """
        if self.candidacy is not Candidacy.AGGREGATING or job != self.job:
            return
        match result:
            case AggregatedModel():
                self._propose(self._draft(result.digest, note=""), adopted=False)
            case NotFinite():
                note = "the average was not finite: the parent's model stays"
                self._propose(self._draft(None, note), adopted=False)
            case UnreadableUpdate():
                assert self.gathering is not None
                self.gathering.discount(result.digest, result.reason)
                if updates := self._counted_updates():
                    self._aggregate(updates)
                else:
                    note = f"no usable update: {result.reason}"
                    self._propose(self._draft(None, note), adopted=False)
            case _:
                assert_never(result)

    # --- proposing ------------------------------------------------------------------------------------------

    def _draft(self, model: str | None, note: str) -> Record:
        return self._new_draft().record(self.ctx, model, note)

    def _new_draft(self) -> Draft:
        assert self.ballot is not None
        return Draft(self.ledger, self.collection, self.ballot, self.requests, self.leaving_myself)

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
        self.proposal, self.accepted_by, self.undelivered = record, {}, {}
        self._move(Candidacy.PROPOSING)
        self.ctx.tell(
            events.Proposed(record.round, ballot.attempt, record.model, len(record.updates), adopted)
        )
        self._send_unanswered()

    def accepted(self, member: Member, message: Accepted) -> None:
        """Count an acceptance of this node's own ballot."""
        if (
            self.candidacy is not Candidacy.PROPOSING
            or message.ballot != self.ballot
            or self.proposal is None
        ):
            return
        if contains(self.ledger.roster, member) and message.record == record_digest(self.proposal):
            self.accepted_by[member] = message.vote
            self.undelivered.pop(member.node, None)
            self.ctx.unserved.pop(member.node, None)
            self._count_accepted()

    def not_delivered(self, member: Member, message: Undelivered) -> None:
        """Take note that *member* cannot have the model; give up when no quorum can (rule 9)."""
        if self.candidacy is not Candidacy.PROPOSING or message.ballot != self.ballot:
            return
        if not contains(self.ledger.roster, member) or member in self.accepted_by:
            return
        self.undelivered[member.node] = self.ctx.unserved[member.node] = message.reason
        accepting = self.accepted_by.keys() | {self.ctx.me}
        able, reason = decide_going_on(
            possible=self.ctx.count_seated(
                entry
                for entry in self.ledger.roster
                if entry.member in accepting or entry.node not in self.undelivered
            ),
            needed=self.ledger.needed,
            undelivered={self.ctx.name_of(node): why for node, why in self.undelivered.items()},
        )
        if not able:
            self.give_up(reason[:300])

    def _count_accepted(self) -> None:
        if len(self.accepted_by) >= self.ledger.needed:
            assert self.proposal is not None
            assert self.ballot is not None
            acceptors = tuple(self.accepted_by[member] for member in sorted(self.accepted_by))
            self.commit(Commit(self.proposal, self.ballot, acceptors))

    # --- giving up ------------------------------------------------------------------------------------------

    def refused(self, promised: Ballot, ballot: Ballot) -> None:
        """Lose against a higher ballot: give this one up and back off (rule 3)."""
        self.highest_seen = max(
            self.highest_seen, min(promised.attempt, self.highest_known + MAX_ATTEMPT_GAP)
        )
        if self.candidacy is not Candidacy.IDLE and ballot == self.ballot:
            self.give_up("a higher ballot was promised", able=True)

    def give_up(self, reason: str, *, able: bool = False) -> None:
        """Leave the candidacy to others, telling them; *able* says that nothing is wrong with this node."""
        assert self.ballot is not None, "only a candidate gives up"
        self._save_seen(at_once=False)
        self.unable = self.unable or not able
        settings = self.ctx.settings
        self.not_before = self.ctx.now + min(settings.backoff * 2**self.failures, settings.backoff_most)
        self.failures += 1
        message = StepDown(self.ledger.run, self.ledger.round + 1, self.ballot, reason)
        for entry in self.ledger.roster:
            self.ctx.send(entry.node, message)
        self.ctx.tell(
            events.SteppedDown(
                self.ledger.round + 1, self.ballot.attempt, self.ctx.name, reason, self.ledger.next_kind
            )
        )
        self._move(Candidacy.IDLE)
        self.ballot, self.proposal, self.resend_at = None, None, None

    # --- sending --------------------------------------------------------------------------------------------

    def arrived(self, node: str) -> None:
        """Say to a member that has just come to this round what it has not answered (rule 4)."""
        if self.candidacy is not Candidacy.IDLE and any(entry.node == node for entry in self.ledger.roster):
            self._send_to(node)

    def linked(self, node: str) -> None:
        """Say to a newly linked member what it may have missed, or forgotten in a restart (rule 4).

        So it is told also if it has answered: it would leave no time to a candidate it does not know of.
        """
        if not any(entry.node == node for entry in self.ledger.roster):
            return
        match self.candidacy:
            case Candidacy.PREPARING | Candidacy.ADOPTING:
                self._send_prepare(node)
            case Candidacy.COLLECTING | Candidacy.AGGREGATING:
                self._send_collect(node)
            case Candidacy.PROPOSING:
                self.ctx.send(node, self._accept_message())
            case Candidacy.IDLE:
                pass
            case _:
                assert_never(self.candidacy)

    def _send_unanswered(self) -> None:
        self.resend_at = self.ctx.now + self.ctx.settings.resend
        for entry in self.ledger.roster:
            if entry.node != self.ctx.me.node:
                self._send_to(entry.node)
        if self.candidacy is Candidacy.PROPOSING and self.ctx.me not in self.accepted_by:
            self.acceptor.propose(self.ctx.me, self._accept_message())

    def _send_to(self, node: str) -> None:
        if self.candidacy is Candidacy.PREPARING and node not in self.promises:
            self._send_prepare(node)
        elif self.candidacy is Candidacy.COLLECTING and node not in self.collection.contributions:
            self._send_collect(node)
        elif self.candidacy is Candidacy.PROPOSING and all(
            member.node != node for member in self.accepted_by
        ):
            self.ctx.send(node, self._accept_message())

    def _send_prepare(self, node: str) -> None:
        assert self.ballot is not None
        self.ctx.send(node, Prepare(self.ledger.run, self.ledger.round + 1, self.ballot))

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

    def _move(self, state: Candidacy) -> None:
        if state not in TRANSITIONS[self.candidacy]:
            raise AssertionError(f"an aggregator cannot go from {self.candidacy.name} to {state.name}")
        self.candidacy = state
