"""The candidate's part of a round: run for election, collect updates, aggregate, propose, commit.

In Paxos terms, this is the proposer. A node makes one `Aggregator` for each round; it is idle until the node
runs for election. `TRANSITIONS` lists the allowed changes of its state. A candidate can step down at any
time, and always announces it (STEP_DOWN), so that no member keeps a leader lease for a candidate that has
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Collection as AnyCollection
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from p2pfl import events
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.collection import Closing, Collection, decide_closing, decide_without_more
from p2pfl.core.context import Context, earliest
from p2pfl.core.effects import Aggregate, SaveSeen, fetch_record
from p2pfl.core.gathering import Gathering
from p2pfl.core.inputs import BlobFailed
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
    RecordBlobs,
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
    StrategyFailed,
    UnreadableUpdate,
    WeightedUpdate,
)


class Candidacy(Enum):
    """The state of a candidacy."""

    IDLE = "idle"
    PREPARING = "asks for votes"
    ADOPTING = "pulls the model of the record it adopts"
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
"""The states that may follow each state. A candidate that steps down is IDLE; a commit ends the object."""


def decide_going_on(*, possible: int, needed: int, undelivered: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether a proposal can still be accepted, and why or why not.

    *possible* is the number of members that may still accept it, *needed* the size of a quorum. *undelivered*
    maps the name of each member that cannot pull its model to the reason.
    """
    if possible >= needed or not undelivered:
        return True, f"{possible} members can accept it, {needed} are needed"
    return (
        False,
        f"its model could not be pulled by {', '.join(undelivered)}: {next(iter(undelivered.values()))}",
    )


def _weighted(update: UpdateEntry) -> WeightedUpdate:
    return WeightedUpdate(update.digest, update.examples, update.steps, update.loss, update.blobs.control)


@dataclass
class Aggregator:
    """The node's own candidacy in the open round."""

    ctx: Context
    ledger: Ledger
    acceptor: Acceptor
    commit: Callable[[Commit], None]
    """Called with the proof when a quorum has accepted this node's proposal."""
    requests: AnyCollection[str]
    """The open control requests ("pause", "end" and "end-now"); shared with the node."""
    candidacy: Candidacy = Candidacy.IDLE
    ballot: Ballot | None = None
    promises: dict[str, Promise] = field(default_factory=dict)
    """By node id of a member: its promise of the ballot."""
    gathering: Gathering | None = None
    """The updates of the ballot in which this node was last elected; None before its first election."""
    job: AggregationJob | None = None
    """The last aggregation that the worker was asked for."""
    proposal: Record | None = None
    """The record that this node proposes, or wants to adopt."""
    accepted_by: dict[Member, SignedVote] = field(default_factory=dict)
    """By member: its signed acceptance of the proposal."""
    undelivered: dict[str, str] = field(default_factory=dict)
    """By node id of a member: the reason it gave why it cannot pull the model of this ballot's record."""
    unusable: dict[RecordBlobs, str] = field(default_factory=dict)
    """By the blobs of an accepted record: why this node could not pull them in this round."""
    told_held: str = ""
    """The last published reason for not closing the round."""
    highest_seen: int = 0
    """The highest attempt in a refusal of this node's ballots."""
    failures: int = 0
    """Candidacies of this round that ended by stepping down; each doubles the backoff."""
    not_before: float = 0.0
    """The earliest time for the next candidacy."""
    unable: bool = False
    """Whether this node stepped down in this round for a reason of its own: then it is last in rank."""
    leaving_myself: bool = False
    """Whether this node is leaving: then it drops itself from the roster that it proposes."""
    resend_at: float | None = None
    """When to repeat the unanswered messages."""
    wake: float | None = None
    """When to decide again whether the round closes."""

    # --- running for election -------------------------------------------------------------------------------

    def run_for_election(self, reason: str, *, has_lowest: bool = False) -> None:
        """Run for election in a ballot above all seen ones, or in the lowest ballot, which needs no promises.

        The lowest ballot is for a node that *has_lowest*, if it has not run for election in this round before
        (nor before a restart) and has seen no other ballot.
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
                f"this device cannot run for election as aggregator of record {self.ledger.round + 1}: all "
                f"{MAX_ATTEMPT} attempts are used up. Another member may have sent wrong ballots (see log)",
            )
            self.not_before = self.ctx.now + self.ctx.settings.backoff_most
            return
        self.ballot, self.accepted_by, self.unusable = Ballot(attempt, self.ctx.me.node), {}, {}
        self._move(Candidacy.PREPARING)
        self.ctx.tell(events.ElectionStarted(self.ledger.round + 1, attempt, reason))
        self.promises = {self.ctx.me.node: self.acceptor.promise_self(self.ballot)}
        if is_lowest:
            # The lowest ballot needs no promise of another member, so this node sends COLLECT while its own
            # promise is written to disk. The promise is on disk before a record is proposed: a crash can
            # only lose a ballot without a value.
            self._elected()
            self.acceptor.save_promise()
        else:
            self.acceptor.save_promise()
            self._send_unanswered()
            self._count_promises()

    @property
    def highest_known(self) -> int:
        """The highest attempt of this round that this member knows."""
        acceptor = self.acceptor
        deferred = acceptor.lease.ballot if acceptor.lease is not None else None
        known = (one.attempt for one in (acceptor.promised, deferred) if one is not None)
        return max(self.highest_seen, FIRST_ATTEMPT, *known)

    def promise(self, member: Member, message: Promise) -> None:
        """Count a promise."""
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
        """Return the promises that count: all but those whose accepted record has unusable blobs.

        Any quorum of promises elects. Every quorum names a record that was decided, so a record that some
        quorum does not name was not decided (rule "Bytes of an adopted record").
        """
        return {
            node: promise
            for node, promise in self.promises.items()
            if promise.accepted is None or promise.accepted.blobs not in self.unusable
        }

    def _save_seen(self, *, at_once: bool) -> None:
        """Save the votes that this candidacy received; durable *at_once* if its next step rests on them."""
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
        """Adopt the record that a promise named, or collect updates (rule "Adoption")."""
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
            self.ctx.do(fetch_record(adopted.blobs, self.ledger.genesis, nodes, self.ledger.model))
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
        """The contributions to the ballot in which this node was last elected."""
        return self.gathering.collection if self.gathering is not None else Collection(set(), 0)

    def submit(self, member: Member, message: Submit) -> None:
        """Take a member's contribution; an update is pulled before it counts."""
        gathering = self._gathering_now
        if gathering is not None and message.ballot == self.ballot:
            gathering.submit(member, message)

    @property
    def _adopting(self) -> Record | None:
        """The record to adopt, while its blobs are being pulled."""
        return self.proposal if self.candidacy is Candidacy.ADOPTING else None

    def blob_ready(self, digests: tuple[str, ...], *, durable: bool) -> None:
        """Continue what waited for the blobs *digests*: a record's must be durable, an update's need not."""
        if (adopting := self._adopting) is not None and adopting.blobs.digests == digests:
            if durable:
                self._propose(adopting, adopted=True)
        elif (gathering := self._gathering_now) is not None:
            gathering.blob_ready(digests)

    def exclude(self, node: str, reason: str) -> None:
        """Leave out the update of *node*, which is kept out, unless a record with it is proposed already."""
        if self.gathering is None or self.candidacy not in (Candidacy.COLLECTING, Candidacy.AGGREGATING):
            return
        if self.gathering.exclude(node, reason) and self.candidacy is Candidacy.AGGREGATING:
            self._aggregate(f"the update of {self.ctx.name_of(node)} was left out")

    def blob_failed(self, failed: BlobFailed) -> None:
        """Handle a failed pull: of an update, or of the blobs of the record to adopt.

        An invalid update is refused. If the pull only failed, the member may announce its update again.
        """
        if (adopting := self._adopting) is not None and failed.is_of(adopting.blobs.digests):
            self._do_without(adopting.blobs, failed.reason)
        elif (gathering := self._gathering_now) is not None:
            gathering.blob_failed(failed)

    def _do_without(self, blobs: RecordBlobs, reason: str) -> None:
        """Seek a quorum of promises that do not name *blobs*, which cannot be pulled; else step down."""
        self.unusable[blobs] = reason
        names_it = {
            node
            for node, promise in self.promises.items()
            if promise.accepted is not None and promise.accepted.blobs == blobs
        }
        others = [entry for entry in self.ledger.roster if entry.node not in names_it]
        if self.ctx.count_seated(others) < self.ledger.needed:
            self.give_up(f"the model of the record to adopt cannot be pulled: {reason}"[:300])
            return
        self.proposal = None
        self._move(Candidacy.PREPARING)
        self._send_unanswered()
        self._count_promises()

    # --- closing --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Do what is due: close the round, repeat unanswered messages, or step down."""
        self.wake = None
        if self.candidacy is Candidacy.COLLECTING:
            self._consider_closing()
        if self.resend_at is not None and self.ctx.now >= self.resend_at:
            if self.candidacy is Candidacy.PREPARING and len(self.promises) >= self.ledger.needed:
                reason = next(iter(self.unusable.values()))
                self.give_up(
                    f"no quorum without a member whose accepted model cannot be pulled: {reason}"[:300]
                )
            else:
                self._send_unanswered()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.wake, self.resend_at)

    def _consider_closing(self) -> None:
        gathering = self.gathering
        assert gathering is not None
        draft = self._new_draft()
        if draft.decide_stopping()[0] and gathering.is_evaluated(draft.evaluated()):
            self._propose(self._draft(None, note=""), adopted=False)  # without waiting for the training
            return
        progress = gathering.progress(self._held())
        verdict, reason, self.wake = decide_closing(progress)
        if verdict is Closing.MORE:
            more = gathering.select_more()
            if more is not None:
                self._send_collect(more)
                return
            verdict, reason, self.wake = decide_without_more(progress)
            if verdict is Closing.WAIT:
                self._warn_held(reason)
        if verdict is Closing.CLOSE:
            self._close(reason)

    def _held(self) -> str:
        """Return why the round may not close yet, and warn about each new reason once."""
        holds, reason = self._new_draft().decide_holding(self.ctx)
        if holds:
            self._warn_held(reason)
        return reason if holds else ""

    def _warn_held(self, reason: str) -> None:
        if reason != self.told_held:
            self.told_held = reason
            self.ctx.warn(reason)

    def _close(self, reason: str) -> None:
        stops, _ = self._new_draft().decide_stopping()
        if stops or self.ledger.next_kind == "evaluate":
            self._propose(self._draft(None, note=""), adopted=False)
        else:
            self._aggregate(reason)

    def _aggregate(self, reason: str) -> None:
        """Ask the worker to aggregate the counted updates; if they are too few, propose the parent's blobs.

        *reason* says why no update came, if none did.
        """
        updates = self.collection.counted(self.ctx.policy.order)
        if not updates:
            self._propose(self._draft(None, f"no usable update: {reason}"), adopted=False)
            return
        ledger = self.ledger
        if shortage := self.ctx.policy.enough(len(updates), ledger.spec):
            self._propose(self._draft(None, shortage, shortage), adopted=False)
            return
        if self.candidacy is not Candidacy.AGGREGATING:
            self._move(Candidacy.AGGREGATING)
        assert self.ballot is not None
        self.job = AggregationJob(
            ledger.run,
            ledger.round + 1,
            self.ballot,
            ledger.spec,
            ledger.model,
            tuple(_weighted(update) for update in updates),
            ledger.blobs.state,
            len(ledger.roster),
        )
        self.ctx.do(Aggregate(self.job))

    def aggregated(self, job: AggregationJob, result: AggregationResult) -> None:
        """Propose the new model; without one, propose the parent's model and the reason (rule "Empty round").

        If an update could not be read, aggregate the others again without it.
        """
        if self.candidacy is not Candidacy.AGGREGATING or job != self.job:
            return
        match result:
            case AggregatedModel():
                blobs = RecordBlobs(result.digest, result.state)
                self._propose(self._draft(blobs, note=""), adopted=False)
            case NotFinite():
                note = "the average was not finite: the parent's model stays"
                self._propose(self._draft(None, note), adopted=False)
            case StrategyFailed():
                # Nothing private is in it: a strategy gets the models, which every aggregator sees.
                note = f"the strategy failed: {result.reason}"[:300]
                self.ctx.warn(note)
                self._propose(self._draft(None, note, note), adopted=False)
            case UnreadableUpdate():
                assert self.gathering is not None
                self.gathering.discount(result.digest, result.reason)
                self._aggregate(result.reason)
            case _:
                assert_never(result)

    # --- proposing ------------------------------------------------------------------------------------------

    def _draft(self, blobs: RecordBlobs | None, note: str, shortage: str = "") -> Record:
        return self._new_draft().record(self.ctx, blobs, note, shortage)

    def _new_draft(self) -> Draft:
        assert self.ballot is not None
        return Draft(self.ledger, self.collection, self.ballot, self.requests, self.leaving_myself)

    def _propose(self, record: Record, *, adopted: bool) -> None:
        """Ask all members to accept *record*, this node included.

        Each member's acceptance, also this node's, counts only when the member has the model on disk. The
        proposal need not wait for that: the ballot is durable already, and never carries another value.
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
        """Note who cannot pull the model; step down if no quorum can (rule "Undelivered models")."""
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

    # --- stepping down --------------------------------------------------------------------------------------

    def refused(self, promised: Ballot, ballot: Ballot) -> None:
        """Step down for a higher ballot, and back off (rule "Refusal and back-off")."""
        self.highest_seen = max(
            self.highest_seen, min(promised.attempt, self.highest_known + MAX_ATTEMPT_GAP)
        )
        if self.candidacy is not Candidacy.IDLE and ballot == self.ballot:
            self.give_up("a higher ballot was promised", able=True)

    def give_up(self, reason: str, *, able: bool = False) -> None:
        """Step down and tell all members; *able* says that the reason is not a fault of this node."""
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
        """Repeat the unanswered message to a member that has just entered this round.

        See rule "Retransmission".
        """
        if self.candidacy is not Candidacy.IDLE and any(entry.node == node for entry in self.ledger.roster):
            self._send_to(node)

    def linked(self, node: str) -> None:
        """Repeat the current message to a newly linked member (rule "Retransmission").

        The member may have missed it, or lost its leader lease in a restart. So the message goes also to a
        member that has answered: without a lease, it would run for election against this candidate.
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
        """Return the digests of the blobs that this candidacy needs."""
        updates = [one.update for one in self.collection.contributions.values() if one.update is not None]
        pins = {digest for update in updates for digest in update.blobs.digests}
        return pins | (set(self.proposal.blobs.digests) if self.proposal else set())

    def _move(self, state: Candidacy) -> None:
        if state not in TRANSITIONS[self.candidacy]:
            raise AssertionError(f"an aggregator cannot go from {self.candidacy.name} to {state.name}")
        self.candidacy = state
