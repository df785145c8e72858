"""A member's own work in the open round: evaluate the parent, train once, offer the update.

A member trains once per (round, parent record): the update comes back after a restart, unless a power cut
took bytes that were not on disk yet, and is announced again to every later aggregator of the round until that
one has noted it (rule 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    Report,
    RosterEntry,
    Submit,
    UpdateBlobs,
    UpdateEntry,
)
from p2pfl.spec import RunSpec
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult


@dataclass
class LocalTrainer:
    """The member's own training and evaluation in the round after the ledger's last."""

    ctx: Context
    ledger: Ledger
    hand_in: Callable[[Submit], None]
    """Gives a contribution to this node's own candidacy."""
    update: UpdateEntry | None = None
    declined: str = ""
    evaluation: Evaluation | None = None
    evaluation_asked: EvaluationJob | None = None
    """What the worker was asked for, or had begun with before the round opened (`p2pfl.core.speculation`)."""
    evaluation_failed: bool = False
    training: bool = False
    wanted: bool = False
    """Whether an update of this member is wanted: it is in the sample, or an aggregator asked for it."""
    progress: float = 0.0
    predicted: float = 0.0
    collector: Ballot | None = None
    """The highest elected ballot heard of."""
    acked: bool = False
    resend_at: float | None = None
    report_at: float | None = None
    """When everybody is to hear of the evaluation, if no record tells it before."""

    @property
    def is_training_round(self) -> bool:
        """Whether the open round trains."""
        return self.ledger.next_kind == "train"

    @property
    def has_done_its_part(self) -> bool:
        """Whether the open round wants nothing more of this member's worker, as far as is known."""
        if not self.is_training_round:
            return True
        return self.update is not None or bool(self.declined) or not self.wanted

    def begin(self, *, ready: bool, declines: str) -> None:
        """Start what can be started: called when the round opens and when what it waited for comes.

        Nothing is trained where there is a reason to decline, *declines*.
        """
        ledger, me = self.ledger, self.ctx.me
        if not (ready and ledger.holds and ledger.is_member and ledger.is_open):
            return
        self._begin_evaluation()
        if not self.is_training_round or self.training or self.update is not None or self.declined:
            return
        spec = ledger.spec
        round_ = ledger.round + 1
        self.wanted = self.wanted or me.node in selection(
            ledger.run, round_, ledger.roster, spec.participation.sample
        )
        if not self.wanted:
            return
        if declines:
            self.decline(declines)
            return
        training = training_of(ledger.run, round_, spec, ledger.model, ledger.roster, me)
        self.take_over(training)
        self.ctx.do(Train(training))

    def take_over(self, training: TrainingJob) -> None:
        """Take *training*, which begins now or began before the round opened, as this round's."""
        self.wanted = self.training = True
        self.ctx.tell(events.TrainingStarted(training.round, training.partition))

    def _begin_evaluation(self) -> None:
        ledger = self.ledger
        if self.evaluation_asked is not None or ledger.round == 0:
            return
        self.evaluation_asked = evaluation_of(
            ledger.run, ledger.round, ledger.spec, ledger.model, ledger.roster, self.ctx.me
        )
        self.ctx.do(Evaluate(self.evaluation_asked))

    def lose_model(self) -> None:
        """Give up what the worker does with the parent, whose file is damaged, until `begin`."""
        if self.training:
            self.training = False
            self.ctx.do(StopTraining())
        if self.evaluation is None:
            self.evaluation_asked = None

    # --- results of the worker ------------------------------------------------------------------------------

    def progressed(self, progress: TrainProgress) -> None:
        """Note how far the training is; it travels with the next Status."""
        if self.training and progress.job.round == self.ledger.round + 1:
            self.progress = progress.done / max(1, progress.total)
            self.predicted = progress.predicted

    def trained(self, result: TrainingResult) -> None:
        """Make the update this member's one update of the round, and announce it."""
        round_, me = self.ledger.round + 1, self.ctx.me
        digest, samples, steps = result.digest, result.part.examples, result.steps
        self.training, self.progress = False, 1.0
        self.update = UpdateEntry(
            me.node, me.journal, UpdateBlobs(digest), samples, steps, result.loss, result.seconds
        )
        self.ctx.tell(events.TrainingFinished(round_, digest, samples, steps, result.loss, result.seconds))
        self.announce()
        # Behind the announcement, which need not wait for the disk: no promise of this member depends on it.
        self.ctx.do(SaveUpdate(self.ledger.run, round_, self.ledger.digest, self.update))

    def restore(self, update: UpdateEntry) -> None:
        """Take back the update trained before a restart."""
        self.update, self.progress = update, 1.0
        self.ctx.tell(events.UpdateReused(self.ledger.round + 1, update.digest))

    def decline(self, reason: str) -> None:
        """Say that there will be no update of this member in this round."""
        if self.update is None and not self.declined:
            if self.training:
                self.training = False
                self.ctx.do(StopTraining())
            self.declined = reason[:300]
            self.announce()

    def evaluated(self, evaluation: Evaluation) -> None:
        """Keep how the parent does here for the next contribution, and report it to everybody soon.

        In a run of short rounds the record of the round tells it to everybody before.
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
        """Go on without an evaluation: a member is not kept from the round by it."""
        self.evaluation_failed = True
        self.announce()

    # --- announcing -----------------------------------------------------------------------------------------

    def collect(self, message: Collect) -> bool:
        """Answer an elected aggregator; return whether it was news that it is elected."""
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
        """Offer this member's contribution to the elected aggregator, if both are there."""
        submit = self.contribution()
        if submit is None:
            return
        self.resend_at = self.ctx.now + self.ctx.settings.resend
        if submit.ballot.node == self.ctx.me.node:
            self.hand_in(submit)
        else:
            self.ctx.send(submit.ballot.node, submit)

    def contribution(self) -> Submit | None:
        """Return what can be offered to the elected ballot now; None while something is still awaited."""
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
        """Stop repeating the announcement: the aggregator has it. Return whether that was news."""
        if message.ballot != self.collector or self.acked:
            return False
        self.acked, self.resend_at = True, None
        if message.refused:
            self.ctx.tell(events.UpdateRefused(message.round, self.ctx.name, message.refused))
        return True

    def advance(self) -> None:
        """Report the evaluation, and repeat an announcement nobody has noted, where that is due."""
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
        """Announce at once when the link to the aggregator is back."""
        if self.collector is not None and self.collector.node == node and not self.acked:
            self.announce()

    def close(self) -> None:
        """End the round's work: it is decided."""
        if self.training:
            self.training = False
            self.ctx.do(StopTraining())

    def pinned(self) -> set[str]:
        """Return the blob of this member's update."""
        return {self.update.digest} if self.update else set()


def training_of(
    run: str, round_: int, spec: RunSpec, parent: str, roster: Sequence[RosterEntry], me: Member
) -> TrainingJob:
    """Return the training of *me*, a member of *roster*, for *round_* from the model *parent*."""
    entry = entry_of(roster, me.node)
    assert entry is not None
    return TrainingJob(run, round_, spec, parent, entry.slot % spec.task.partitions)


def evaluation_of(
    run: str, round_: int, spec: RunSpec, model: str, roster: Sequence[RosterEntry], me: Member
) -> EvaluationJob:
    """Return the evaluation by *me*, a member of *roster*, of the *model* of *round_*."""
    part = next(place for place, entry in enumerate(roster) if entry.node == me.node)
    return EvaluationJob(run, round_, spec, model, part, len(roster))
