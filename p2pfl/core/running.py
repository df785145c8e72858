"""A node's part in one run: its three roles in the open round, and the step from round to round.

Each commit opens a round with a new `Acceptor`, `Aggregator` and `LocalTrainer`. A node answers a message of
an earlier round with the records of that round and later ones, and a message of a later round makes it ask
for the records it lacks (rule "Retransmission"). `p2pfl.core.screening` decides which messages of the open
round count; `p2pfl.core.turn` decides when this member runs for election.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator, Candidacy
from p2pfl.core.catch_up import CatchUp, RoundMessage
from p2pfl.core.context import Context, earliest
from p2pfl.core.control import ENDED_NOW, ControlRequests
from p2pfl.core.effects import Aggregate, Create, Describe, Evaluate, Exit, SendRecords, Train, fetch_record
from p2pfl.core.lease import LeaseStep
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer
from p2pfl.core.notices import Notices
from p2pfl.core.roster import contains, ranked
from p2pfl.core.saved import Vote
from p2pfl.core.screening import is_of_member, may_run_for_election, takes_vote
from p2pfl.core.speculation import Speculation
from p2pfl.core.turn import Turn
from p2pfl.disclosure import told_to_peers
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    LEAVING,
    Accept,
    Accepted,
    Ack,
    Collect,
    Commit,
    ControlRequest,
    Member,
    Prepare,
    Promise,
    Refuse,
    Report,
    StepDown,
    Submit,
    Undelivered,
    UpdateEntry,
    record_digest,
)
from p2pfl.work import EvaluationJob, TrainingJob

LOST_BLOB_TRIES = 60
"""Failed pulls of an accepted model, with a quorum reachable, after which the disk counts as lost (rule
"Pinned blobs")."""

MODEL_TRIES = 3
"""Failed pulls of the last model after which this member declines to train in this round."""


class Running:
    """The protocol of the run that this node is in."""

    acceptor: Acceptor
    aggregator: Aggregator
    local_trainer: LocalTrainer
    turn: Turn

    def __init__(self, ctx: Context, ledger: Ledger, *, ready: bool) -> None:
        self.ctx = ctx
        self.ledger = ledger
        self.ready = ready
        """Whether the worker knows the run's task, and its model has the run's schema."""
        self.leaving = False
        self.requests = ControlRequests(ctx, ledger)
        self.catch_up = CatchUp(ctx, ledger)
        self.speculation = Speculation(ctx, ledger)
        self.notices = Notices(ctx, ledger)
        self._refetch_at: float | None = None
        self._lost_tries = 0
        self.model_failures, self.model_flaw = 0, ""
        """The number of failed pulls of the last model, and the reason of the last failure."""
        self.model_failing_since: float | None = None
        """Time of the first failed pull since bytes of the last model arrived; None without one."""
        self._wake: float | None = None
        self._is_untidy = False
        """Whether unneeded blobs may exist. Their deletion can wait until all other effects are issued."""
        self._missed_from: int | None = None
        """Number of the first training round of the catch-up under way; None without a catch-up."""
        ctx.run, ctx.is_begun = ledger.run, ledger.last is not None

    # --- rounds ---------------------------------------------------------------------------------------------

    def open_round(
        self, vote: Vote | None = None, update: UpdateEntry | None = None, *, is_resumed: bool = False
    ) -> None:
        """Open the round after the ledger's last; *is_resumed* says that the node continues after a restart.

        *vote* and *update* are this node's own in that round, if it voted or trained in it before.
        """
        ctx, ledger = self.ctx, self.ledger
        me = ctx.me
        self.acceptor = Acceptor.open(ctx, ledger, lambda answer: self.aggregator.accepted(me, answer), vote)
        self.aggregator = Aggregator(ctx, ledger, self.acceptor, self.commit, self.requests.open)
        self.aggregator.leaving_myself = self.leaving
        self.local_trainer = LocalTrainer(ctx, ledger, lambda submit: self.aggregator.submit(me, submit))
        order = ranked(ledger.run, ledger.round + 1, [entry.node for entry in ledger.roster])
        self.turn = Turn(ctx, ledger, self.acceptor, self.aggregator, order, is_resumed)
        self.notices.open_round()
        if update is not None:
            self.local_trainer.restore(update)
        if self.acceptor.accepted is not None:
            self._fetch_accepted()
        self._adopt_speculation()
        self.begin()

    def begin(self) -> None:
        """Start this member's own work, if its task and model are ready."""
        if not self.local_trainer.has_done_its_part:
            self.speculation.drop()  # the open round comes first
        self.local_trainer.begin(ready=self.ready, declines=self._declines)

    @property
    def _declines(self) -> str:
        """Why this member declines to train; empty if it trains."""
        return LEAVING if self.leaving else ENDED_NOW if "end-now" in self.requests.open else ""

    def close(self) -> None:
        """Stop the work for this run, since the node leaves it for another one."""
        self.local_trainer.close()
        self.speculation.drop()

    # --- speculation ----------------------------------------------------------------------------------------

    def _begin_speculation(self, digests: tuple[str, ...]) -> None:
        """Work on the proposed record with the blobs *digests*, if this member has done its part."""
        pending = self.acceptor.pending
        is_pending = pending is not None and pending.record.blobs.digests == digests
        if pending is None or not is_pending or not self.ledger.succeeds(pending.record):
            return
        if self.ready and self.local_trainer.has_done_its_part and not self._declines:
            self.speculation.begin(pending.record)

    def _adopt_speculation(self) -> None:
        """Take over the speculation if its record was committed; otherwise drop it."""
        record = self.speculation.record
        if record is None:
            return
        if record_digest(record) != self.ledger.digest or self._declines or not self.ledger.is_open:
            self.speculation.drop()
            return
        for result in self.speculation.hand_over(self.local_trainer):
            match result:
                case inputs.TrainProgress():
                    self.local_trainer.progressed(result)
                case inputs.Trained():
                    self.trained(result)
                case inputs.Evaluated():
                    self.evaluated(result)
                case _:
                    assert_never(result)

    def restart_model(self) -> None:
        """Fetch the last model: check the blob if it is here, otherwise pull it."""
        self._refetch_at = None
        self.ledger.fetch_model()

    def commit(self, commit: Commit) -> None:
        """Commit this node's own proposal and broadcast the commit."""
        self.apply(commit, is_mine=True)

    def apply(self, commit: Commit, *, is_mine: bool = False, is_late: bool = False) -> None:
        """Append a believed commit and open the next round; *is_late* says that the node catches up."""
        ledger, record = self.ledger, commit.record
        self.notices.fate(commit, self.local_trainer, is_leaving=self.leaving)
        if not is_late:
            self.notices.missing_pairs(commit)
        self.local_trainer.close()
        holds = self.acceptor.accepted == record
        ledger.commit(commit, is_late=is_late)
        self.ctx.is_begun = True
        self.model_failures, self.model_failing_since = 0, None
        if is_mine:
            self.ctx.broadcast(commit)
        if not is_late:
            self.notices.pause()
        self.requests.settle()
        ledger.holds = ledger.holds or holds
        self.open_round()
        if ledger.holds:
            self._is_untidy = True
        else:
            self.restart_model()

    def tidy(self, pinned: Callable[[], set[str]]) -> None:
        """Delete blobs that are neither needed nor *pinned*; call it after everything else."""
        if self._is_untidy:
            self._is_untidy = False
            own = (
                self.acceptor.pinned()
                | self.aggregator.pinned()
                | self.local_trainer.pinned()
                | self.speculation.pinned()
            )
            self.ledger.collect(own | pinned())

    # --- messages -------------------------------------------------------------------------------------------

    def received(self, member: Member, message: RoundMessage) -> None:
        """Handle a message of a round: the open round's, or a past or later one's (see the module)."""
        ledger = self.ledger
        if message.run != ledger.run or ledger.halted:
            return
        if isinstance(message, Promise | Accepted) and not takes_vote(self.ctx, ledger, member, message):
            return
        if message.round <= ledger.round:
            if isinstance(message, Prepare | Collect | Accept | Submit):
                self.ctx.do(SendRecords(member.node, ledger.run, max(0, message.round - 1)))
        elif message.round > ledger.round + 1:
            self.catch_up.keep(member, message)
        elif ledger.is_member and ledger.is_open:
            self._received_now(member, message)

    def _received_now(self, member: Member, message: RoundMessage) -> None:
        aggregator, acceptor = self.aggregator, self.acceptor
        if not is_of_member(self.ctx, self.ledger, member, message):
            return
        match message:
            case Prepare() | Accept() | Collect():
                if may_run_for_election(self.ctx, member, message, self.turn.order, aggregator.highest_known):
                    self._defer_to(message)
                    self._answer_candidate(member, message)
            case Promise():
                aggregator.promise(member, message)
                self._collect_own()
            case Refuse():
                aggregator.refused(message.promised, message.ballot)
            case Submit():
                aggregator.submit(member, message)
            case Ack():
                if message.ballot.node == member.node and self.local_trainer.note(message):
                    acceptor.progressed(message.ballot)
            case Accepted():
                aggregator.accepted(member, message)
            case Undelivered():
                aggregator.not_delivered(member, message)
            case StepDown():
                if message.ballot.node == member.node and acceptor.end_lease(member.node):
                    name = self.ctx.name_of(member.node)
                    kind = self.ledger.next_kind
                    self.ctx.tell(
                        events.SteppedDown(message.round, message.ballot.attempt, name, message.reason, kind)
                    )
            case _:
                assert_never(message)

    def _answer_candidate(self, member: Member, message: Prepare | Accept | Collect) -> None:
        match message:
            case Prepare():
                self.acceptor.prepare(member, message)
            case Accept():
                self.notices.elected(message)
                self.acceptor.propose(member, message)
            case Collect():
                self.acceptor.defer_to(message.ballot, LeaseStep.COLLECTS)
                if self.local_trainer.collect(message):
                    self.notices.elected(message)
                self.begin()
            case _:
                assert_never(message)

    def _defer_to(self, message: Prepare | Accept | Collect) -> None:
        """Step down if *message* has a higher ballot than this node's own candidacy."""
        mine = self.aggregator.ballot
        if mine is not None and message.ballot > mine:
            self.aggregator.refused(message.ballot, mine)

    def learned(self, source: str, commits: tuple[Commit, ...]) -> None:
        """Take commits from node *source*, each only with its proof (rule "Proof of commit")."""
        newest = max(
            (
                peer.status.round
                for peer in self.ctx.peers.values()
                if peer.status is not None and peer.status.run == self.ledger.run
            ),
            default=0,
        )
        for commit in commits:
            if self.ledger.halted or self.ledger.conflict(commit, source):
                return
            if commit.record.run != self.ledger.run or commit.record.round <= self.ledger.round:
                continue
            if commit.record.round > self.ledger.round + 1:
                self.catch_up.ask(source)
                return
            flaw = self.ledger.believe(commit)
            if flaw is not None:
                name = self.ctx.name_of(source)
                text = f"record {commit.record.round} from {name} is not believed: {flaw}"
                self.ctx.complain(source, "forged", text)
                return
            if self.ledger.is_ahead_of_me(commit):
                self.ledger.detect_forgotten_vote(commit)
                return
            is_late = len(commits) > 1 or commit.record.round < newest
            if is_late and self._missed_from is None:
                self._missed_from = self.ledger.trained + 1
            self.apply(self.ledger.proven(commit), is_late=is_late)
        if self._missed_from is not None and self.ledger.round >= newest:
            first, self._missed_from = self._missed_from, None
            ledger, name = self.ledger, self.ctx.name_of(source)
            self.ctx.tell(events.CaughtUp(first, ledger.trained, ledger.rounds, name))
            self.notices.pause()

    def report(self, member: Member, message: Report) -> None:
        """Store a member's evaluation of the last model."""
        self.ledger.report(member.node, message)

    # --- control requests -----------------------------------------------------------------------------------

    def control_request(self, message: ControlRequest, source: str) -> None:
        """Take a control request that node *source* sent; the next record fulfils it.

        See rule "Control requests".
        """
        if self.requests.take(message, source):
            if message.what == "end-now" and self.local_trainer.is_training_round:
                self.local_trainer.decline(ENDED_NOW)
            self.begin()

    def resume(self, round_: int, member: Member) -> None:
        """Lift the pause after *round_* if *member*, which has lifted it, is in the roster."""
        if contains(self.ledger.roster, member) and self.requests.resume(
            round_, by=self.ctx.name_of(member.node)
        ):
            self.begin()

    def exclude(self, node: str, reason: str) -> None:
        """Take no lead and no update of *node* any more: it is kept out."""
        self.acceptor.exclude(node)
        self.aggregator.exclude(node, reason)
        if node == self.ctx.me.node:
            self.leave()
            if self.aggregator.candidacy is not Candidacy.IDLE:
                self.aggregator.give_up(f"it {reason}"[:300])

    def leave(self) -> None:
        """Leave: stop training; vote and serve blobs until a commit drops this member (rule "Leaving")."""
        self.leaving = self.aggregator.leaving_myself = True
        self.speculation.drop()
        if self.local_trainer.is_training_round:
            self.local_trainer.decline(LEAVING)

    # --- results --------------------------------------------------------------------------------------------

    def blob_ready(self, ready: inputs.BlobReady) -> None:
        """Continue the work that waited for blobs; only durable blobs allow a vote or count as held."""
        digests = ready.digests
        if not ready.durable:
            self._begin_speculation(digests)
        else:
            if digests == self.ledger.blobs.digests and not self.ledger.holds:
                self.ledger.holds, self._refetch_at = True, None
                self._is_untidy = True
                self.begin()
            if self.acceptor.accepted is not None and digests == self.acceptor.accepted.blobs.digests:
                self._lost_tries = 0
            self.acceptor.blob_ready(digests)
        self.aggregator.blob_ready(digests, durable=ready.durable)

    def blob_failed(self, failed: inputs.BlobFailed) -> None:
        """Retry later if this node needs the blobs; tell acceptor and aggregator of the failed pull."""
        if failed.is_lost:
            self._lose(failed.digest)
        accepted = self.acceptor.accepted
        is_accepted = accepted is not None and failed.is_of(accepted.blobs.digests)
        is_last = failed.is_of(self.ledger.blobs.digests) and not self.ledger.holds
        if is_accepted and self._reachable() >= self.ledger.needed:
            self._lost_tries += 1
            if self._lost_tries >= LOST_BLOB_TRIES:
                text = (
                    f"the model this device accepted as record {self.ledger.round + 1} can neither be read "
                    f"nor pulled: {failed.reason}. Its disk counts as lost: start with --new-journal"
                )
                self.ctx.tell(events.Notice("error", text))
                self.ctx.do(Exit(ExitCode.LOST_MODEL, text))
                return
        if is_accepted or is_last:
            self._refetch_at = self.ctx.now + self.ctx.settings.resend
        if is_last and not failed.is_lost:
            self._do_without_parent(failed.reason)
        self.acceptor.blob_failed(failed)
        self.aggregator.blob_failed(failed)

    def _do_without_parent(self, reason: str) -> None:
        """Decline after too many failed pulls of the last model, so that nobody waits for this member."""
        self.model_failures += 1
        self.model_flaw = reason
        if self.model_failing_since is None:
            self.model_failing_since = self.ctx.now
        is_wanted = self.ledger.is_open and self.ledger.is_member
        if self.model_failures < MODEL_TRIES or not is_wanted:
            return
        if self.local_trainer.is_training_round:
            self.local_trainer.decline(f"it cannot have the last model: {reason}"[:300])
        elif not self.local_trainer.evaluation_failed:
            self.local_trainer.fail_evaluation()

    def blob_progressed(self, digest: str) -> None:
        """Note that bytes of a blob arrived: its pull makes progress, however slowly."""
        if digest in self.ledger.blobs.digests:
            self.model_failing_since = None
        self.acceptor.blob_progressed(digest)

    def _lose(self, digest: str) -> None:
        """Stop the work on a record with a damaged blob; it starts again when the blob is pulled again."""
        if self.speculation.record is not None and digest in self.speculation.record.blobs.digests:
            self.speculation.drop()
        if digest in self.ledger.blobs.digests:
            self.ledger.holds = False
            self.local_trainer.lose_model()

    def _fetch_accepted(self) -> None:
        accepted = self.acceptor.accepted
        assert accepted is not None
        others = tuple(entry.node for entry in self.ledger.roster if entry.node != self.ctx.me.node)
        self.ctx.do(fetch_record(accepted.blobs, self.ledger.genesis, others, self.ledger.model))

    def trained(self, result: inputs.Trained) -> None:
        """Take the worker's update if it is for the open round or for the speculation."""
        ledger = self.ledger
        blobs = ledger.blobs
        due = (ledger.run, ledger.round + 1, blobs.model, blobs.state, ledger.memory)
        if result.job.round > due[1]:
            self.speculation.take(result)
        elif self.local_trainer.training and self.ctx.policy.fits(result.job, due):
            self.local_trainer.trained(result.result)

    def progressed(self, progress: inputs.TrainProgress) -> None:
        """Store the progress of this member's training."""
        if progress.job.round > self.ledger.round + 1:
            self.speculation.take(progress)
        else:
            self.local_trainer.progressed(progress)

    def evaluated(self, result: inputs.Evaluated) -> None:
        """Take the worker's evaluation of the last model or of the proposed one."""
        if result.job == self.local_trainer.evaluation_asked:
            self.local_trainer.evaluated(result.evaluation)
        else:
            self.speculation.take(result)

    def work_failed(self, failed: inputs.WorkFailed) -> None:
        """Warn about a failed job of the open round, and go on without its result."""
        effect = failed.effect
        assert not isinstance(effect, Describe | Create), "the node's own jobs, not those of a round"
        match effect:
            case Train() | Evaluate():
                if self.speculation.failed(failed) or not self._is_of_last(effect.job):
                    return  # of a speculative training or evaluation
            case Aggregate():
                if effect.job.ballot != self.aggregator.ballot:
                    return  # of a candidacy that has ended
            case _:
                assert_never(effect)
        self.ctx.warn(f"the worker could not {failed.what}: {failed.reason}")
        match effect:
            case Train() if effect.job.round == self.ledger.round + 1:
                told = told_to_peers(self.ledger.spec.task, failed.reason)
                self.local_trainer.decline(f"its training failed: {told}"[:300])
            case Evaluate() if effect.job.round == self.ledger.round:
                self.local_trainer.fail_evaluation()
            case Aggregate():
                self.aggregator.give_up(f"its worker could not aggregate: {failed.reason}"[:300])

    def _is_of_last(self, job: TrainingJob | EvaluationJob) -> bool:
        """Whether *job* works on the last record."""
        last = self.ledger.blobs
        return job.model == last.model and (isinstance(job, EvaluationJob) or job.state == last.state)

    # --- time -----------------------------------------------------------------------------------------------

    def linked(self, node: str) -> None:
        """Repeat the messages that a newly linked peer may have missed."""
        self.requests.repeat(node)
        self.aggregator.linked(node)
        self.local_trainer.linked(node)

    def arrived(self, node: str) -> None:
        """Repeat the messages that a peer may have missed before it entered this round."""
        self.requests.repeat(node)
        self.aggregator.arrived(node)
        self.local_trainer.linked(node)

    def unlinked(self, node: str) -> None:
        """End the leader lease of a candidate whose link ended."""
        self.acceptor.end_lease(node)

    def advance(self) -> None:
        """Do what has become due."""
        self._wake = None
        self.catch_up.advance()
        self.catch_up.release(self.received)
        if self._refetch_at is not None and self.ctx.now >= self._refetch_at:
            self._refetch_at = None
            if not self.ledger.holds:
                self.ledger.fetch_model()
            elif self.acceptor.accepted is not None:
                self._fetch_accepted()
        if not self.ledger.is_open:
            return
        self.notices.selection()
        reachable = self._reachable()
        self._wake = self.notices.quorum(reachable)  # a learner waits for the members' quorum as well
        if not self.ledger.is_member:
            return
        self._cut_own_training()
        self.local_trainer.advance()
        self.aggregator.advance()
        self.turn.consider(reachable, is_ready=self.ready)
        self._wake = earliest(self._wake, self.turn.wake)
        self._collect_own()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        if not (self.ledger.is_open and self.ledger.is_member):
            return earliest(self._wake, self._refetch_at, self.catch_up.deadline)
        parts = (self.aggregator.deadline, self.local_trainer.deadline, self.catch_up.deadline)
        return earliest(self._wake, self._refetch_at, *parts)

    def _reachable(self) -> int:
        return self.ctx.count_seated(self.ledger.roster)

    def _cut_own_training(self) -> None:
        """Stop this node's own training at the round's cap if the node is the aggregator that waits."""
        cap_at = self.ledger.opened + self.ledger.spec.participation.round_cap
        if (
            self.local_trainer.training
            and self.aggregator.candidacy is Candidacy.COLLECTING
            and self.ctx.now >= cap_at
        ):
            self.local_trainer.decline("the round's cap passed before its training ended")

    def _collect_own(self) -> None:
        """Submit this member's own contribution if this node is the elected aggregator."""
        aggregator, ledger = self.aggregator, self.ledger
        if aggregator.candidacy is not Candidacy.COLLECTING or aggregator.ballot is None:
            return
        me = self.ctx.me.node
        if me not in aggregator.collection.contributions:
            wanted = me in aggregator.collection.selected
            self.local_trainer.collect(Collect(ledger.run, ledger.round + 1, aggregator.ballot, wanted))
            if wanted:
                self.begin()
