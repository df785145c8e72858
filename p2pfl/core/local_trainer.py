"""A member's own work in the open round: evaluate the parent's model, train once, announce the update.

A member trains once for each round and parent record (rule "One update a member"). After a restart, it uses
the saved update again, unless a power cut lost bytes that were not on disk yet. It announces the update to
every aggregator of the round until that aggregator acknowledges it (rule "Retransmission").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from p2pfl import events
from p2pfl.core.context import Context, earliest
from p2pfl.core.effects import Evaluate, SaveUpdate, StopTraining, Train
from p2pfl.core.inputs import TrainProgress
from p2pfl.core.ledger import Ledger
from p2pfl.core.roster import entry_of, selection
from p2pfl.messages import (
    Ack,
    Ballot,
    Collect,
    Evaluation,
    Member,
    RecordBlobs,
    Report,
    RosterEntry,
    Submit,
    UpdateBlobs,
    UpdateEntry,
)
from p2pfl.spec import evaluation_parts, partitions_of
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult


@dataclass
class LocalTrainer:
    """The member's own training and evaluation in the open round."""

    ctx: Context
    ledger: Ledger
    hand_in: Callable[[Submit], None]
    """Called with this member's contribution when this node itself is the aggregator."""
    update: UpdateEntry | None = None
    """This member's update of the round; None until it is trained."""
    declined: str = ""
    """Why this member declined to train in the round; empty if it did not."""
    evaluation: Evaluation | None = None
    """This member's evaluation of the parent's model; None until it is done."""
    evaluation_asked: EvaluationJob | None = None
    """The evaluation that the worker was asked for, perhaps before the round opened, by
    `p2pfl.core.speculation`."""
    evaluation_failed: bool = False
    training: bool = False
    """Whether the worker trains for the round."""
    wanted: bool = False
    """Whether this member is selected to train, by the sample or by an aggregator that asked for more."""
    progress: float = 0.0
    """Fraction of the training that is done, from 0 to 1."""
    predicted: float = 0.0
    """Estimated total seconds of the training; 0 without an estimate."""
    collector: Ballot | None = None
    """The highest ballot whose candidate was elected, as far as this node knows."""
    acked: bool = False
    """Whether the aggregator of ballot `collector` has acknowledged the contribution."""
    resend_at: float | None = None
    """When to repeat the unacknowledged contribution."""
    report_at: float | None = None
    """When to broadcast the evaluation, unless a record with it is committed before."""

    @property
    def is_training_round(self) -> bool:
        """Whether the open round trains."""
        return self.ledger.next_kind == "train"

    @property
    def has_done_its_part(self) -> bool:
        """Whether the open round needs no more training of this member, as far as this node knows."""
        if not self.is_training_round:
            return True
        return self.update is not None or bool(self.declined) or not self.wanted

    def begin(self, *, ready: bool, declines: str) -> None:
        """Start the evaluation and the training, if they can start and have not.

        Called when the round opens, and again when the task or the model becomes ready. A nonempty *declines*
        is the reason why this member declines to train.
        """
        ledger, me = self.ledger, self.ctx.me
        if not (ready and ledger.holds and ledger.is_member and ledger.is_open):
            return
        self._begin_evaluation()
        if not self.is_training_round or self.training or self.update is not None or self.declined:
            return
        round_ = ledger.round + 1
        self.wanted = self.wanted or me.node in selection(ledger.run, round_, ledger.roster, ledger.spec)
        if not self.wanted:
            return
        if declines:
            self.decline(declines)
            return
        training = training_of(ledger, round_, WorkBase.of(ledger), me)
        self.take_over(training)
        self.ctx.do(Train(training))

    def take_over(self, training: TrainingJob) -> None:
        """Count *training* as this round's; it begins now, or began as speculation."""
        self.wanted = self.training = True
        self.ctx.tell(events.TrainingStarted(training.round, training.partition))

    def _begin_evaluation(self) -> None:
        ledger = self.ledger
        if self.evaluation_asked is not None or ledger.round == 0:
            return
        self.evaluation_asked = evaluation_of(ledger, ledger.round, WorkBase.of(ledger), self.ctx.me)
        self.ctx.do(Evaluate(self.evaluation_asked))

    def lose_model(self) -> None:
        """Stop the work on the parent's model, whose file is damaged; `begin` starts it again."""
        if self.training:
            self.training = False
            self.ctx.do(StopTraining())
        if self.evaluation is None:
            self.evaluation_asked = None

    # --- results of the worker ------------------------------------------------------------------------------

    def progressed(self, progress: TrainProgress) -> None:
        """Store the progress of the training for the next Status."""
        if self.training and progress.job.round == self.ledger.round + 1:
            self.progress = progress.done / max(1, progress.total)
            self.predicted = progress.predicted

    def trained(self, result: TrainingResult) -> None:
        """Store this member's only update of the round, and announce it."""
        round_, me = self.ledger.round + 1, self.ctx.me
        entry = entry_of(self.ledger.roster, me.node)
        assert entry is not None, "only members train"
        # A device that has more data since it joined weighs as much as it stated then.
        examples = min(result.part.examples, entry.examples)
        digest, steps = result.digest, result.steps
        self.training, self.progress = False, 1.0
        self.update = UpdateEntry(
            me.node,
            me.journal,
            UpdateBlobs(digest, result.control),
            examples,
            steps,
            result.loss,
            result.seconds,
            result.planned,
        )
        self.ctx.tell(
            events.TrainingFinished(
                round_, digest, examples, steps, result.loss, result.seconds, result.planned
            )
        )
        self.announce()
        # Saved after the announcement, which need not wait for the disk: no vote depends on the update.
        self.ctx.do(SaveUpdate(self.ledger.run, round_, self.ledger.digest, self.update))

    def restore(self, update: UpdateEntry) -> None:
        """Use the update that was trained before a restart."""
        self.update, self.progress = update, 1.0
        self.ctx.tell(events.UpdateReused(self.ledger.round + 1, update.digest))

    def decline(self, reason: str) -> None:
        """Decline to train in this round, and announce it with *reason*."""
        if self.update is None and not self.declined:
            if self.training:
                self.training = False
                self.ctx.do(StopTraining())
            self.declined = reason[:300]
            self.announce()

    def evaluated(self, evaluation: Evaluation) -> None:
        """Store the evaluation of the parent's model for the contribution, and announce it.

        It is broadcast after `report_after` seconds, unless the round is over by then: its record has it.
        """
        if self.evaluation is not None:
            return
        self.evaluation = evaluation
        self.report_at = self.ctx.now + self.ctx.settings.report_after
        self.announce()

    def _report(self, evaluation: Evaluation) -> None:
        report = Report(self.ledger.run, self.ledger.round, evaluation)
        self.ledger.report(self.ctx.me.node, report)
        self.ctx.broadcast(report)

    def fail_evaluation(self) -> None:
        """Contribute without an evaluation."""
        self.evaluation_failed = True
        self.announce()

    # --- announcing -----------------------------------------------------------------------------------------

    def collect(self, message: Collect) -> bool:
        """Answer an elected aggregator; return whether its election was new to this node."""
        is_news = self.collector is None or message.ballot > self.collector
        if self.collector is not None and message.ballot < self.collector:
            return False
        if is_news:
            self.collector, self.acked = message.ballot, False
        if message.selected and self.is_training_round and not self.wanted:
            self.wanted, self.acked = True, False
        if not self.acked:
            self.announce()
        return is_news

    def announce(self) -> None:
        """Send this member's contribution to the elected aggregator, if both exist."""
        submit = self.contribution()
        if submit is None:
            return
        self.resend_at = self.ctx.now + self.ctx.settings.resend
        if submit.ballot.node == self.ctx.me.node:
            self.hand_in(submit)
        else:
            self.ctx.send(submit.ballot.node, submit)

    def contribution(self) -> Submit | None:
        """Return this member's contribution to the elected ballot; None while it must not be sent yet."""
        if self.collector is None:
            return None
        waits_for_update = (
            self.is_training_round and self.wanted and self.update is None and not self.declined
        )
        is_evaluated = self.evaluation is not None or self.evaluation_failed or self.ledger.round == 0
        if waits_for_update or not (is_evaluated or self.update is not None or self.declined):
            return None
        return Submit(
            self.ledger.run,
            self.ledger.round + 1,
            self.collector,
            self.ledger.digest,
            self.update if self.wanted else None,
            self.declined,
            self.evaluation,
        )

    def note(self, message: Ack) -> bool:
        """Take an acknowledgement: stop repeating the announcement. Return whether it was the first one."""
        if message.ballot != self.collector or self.acked:
            return False
        self.acked, self.resend_at = True, None
        if message.refused:
            self.ctx.tell(events.UpdateRefused(message.round, self.ctx.name, message.refused))
        return True

    def advance(self) -> None:
        """Broadcast the evaluation and repeat an unacknowledged announcement, if due."""
        if self.report_at is not None and self.ctx.now >= self.report_at:
            self.report_at = None
            assert self.evaluation is not None
            self._report(self.evaluation)
        if self.resend_at is not None and self.ctx.now >= self.resend_at:
            self.resend_at = None
            if not self.acked:
                self.announce()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.resend_at, self.report_at)

    def linked(self, node: str) -> None:
        """Repeat an unacknowledged announcement at once if *node* is the aggregator."""
        if self.collector is not None and self.collector.node == node and not self.acked:
            self.announce()

    def close(self) -> None:
        """Stop the training, since the round is decided or the node leaves the run."""
        if self.training:
            self.training = False
            self.ctx.do(StopTraining())

    def pinned(self) -> set[str]:
        """Return the digests of the blobs of this member's update, if there is one."""
        return set(self.update.blobs.digests) if self.update else set()


class WorkBase(NamedTuple):
    """What a member's work begins from: the last record, or a proposed one."""

    blobs: RecordBlobs
    trained: int
    """Number of rounds of training that led to the model."""
    roster: Sequence[RosterEntry]
    """The members that work on it."""
    memory: str
    """See `p2pfl.work.TrainingJob`."""

    @classmethod
    def of(cls, ledger: Ledger) -> WorkBase:
        """Return the base that the last record of *ledger* is."""
        return cls(ledger.blobs, ledger.trained, ledger.roster, ledger.memory)


def training_of(ledger: Ledger, round_: int, base: WorkBase, me: Member) -> TrainingJob:
    """Return the training job of *me*, a member of the roster of *base*, for *round_*."""
    entry = entry_of(base.roster, me.node)
    assert entry is not None
    spec = ledger.spec
    return TrainingJob(
        ledger.run,
        round_,
        spec,
        ledger.agreement,
        base.blobs.model,
        entry.slot % partitions_of(spec.task),
        base.trained,
        ledger.rounds,
        base.blobs.state,
        len(base.roster),
        base.memory,
    )


def evaluation_of(ledger: Ledger, round_: int, base: WorkBase, me: Member) -> EvaluationJob:
    """Return the evaluation job of *me*, a member of the roster of *base*, for its model, of *round_*."""
    spec, parts = ledger.spec, evaluation_parts(ledger.spec.task, len(base.roster))
    part = next(place for place, entry in enumerate(base.roster) if entry.node == me.node) % parts
    model = base.blobs.model
    entry = entry_of(base.roster, me.node)
    assert entry is not None
    partition = entry.slot % partitions_of(spec.task)
    return EvaluationJob(
        ledger.run, round_, spec, ledger.agreement, model, part, parts, base.memory, partition
    )
