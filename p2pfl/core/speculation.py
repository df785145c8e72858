"""Speculation: a member begins the next round's work on a proposed model before the model is committed.

A member's worker is idle from the time when the proposed model is pulled and checked until a quorum has
flushed and accepted it. Almost every proposal is committed, so the member evaluates that model and trains on
it meanwhile. No result leaves this node before the commit. If the proposal is committed, the next round's
`LocalTrainer` takes over the work and its results; otherwise they are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfl.core.context import Context
from p2pfl.core.effects import Evaluate, StopTraining, Train
from p2pfl.core.inputs import Evaluated, Trained, TrainProgress, WorkFailed
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer, WorkBase, evaluation_of, training_of
from p2pfl.core.options import due_of
from p2pfl.core.roster import contains, selection
from p2pfl.messages import Record
from p2pfl.spec import ScriptTask
from p2pfl.work import EvaluationJob, TrainingJob


@dataclass
class Speculation:
    """The work of a member for the round after the open one."""

    ctx: Context
    ledger: Ledger
    record: Record | None = None
    """The proposed record whose model this member works on; None without speculation."""
    _evaluation: EvaluationJob | None = None
    _training: TrainingJob | None = None
    """The jobs that the worker was asked for."""
    _results: list[TrainProgress | Trained | Evaluated] = field(default_factory=list)
    """The results so far; of the progress reports, only the last one."""

    def begin(self, record: Record) -> None:
        """Work on the model of *record*, which is pulled and checked; drop the work on any other model."""
        if record == self.record:
            return
        self.drop()
        me = self.ctx.me
        if record.then != "go" or not contains(record.roster, me):
            return
        self.record = record
        ledger, round_ = self.ledger, record.round + 1
        base = WorkBase(record.blobs, record.trained, record.roster, ledger.memory_after(record))
        self._evaluation = evaluation_of(ledger, record.round, base, me)
        self.ctx.do(Evaluate(self._evaluation))
        # A script's loop cannot be stopped: it begins on committed models only.
        trains = record.trained < max(record.rounds, ledger.wanted_rounds) and not isinstance(
            ledger.spec.task, ScriptTask
        )
        if trains and me.node in selection(record.run, round_, record.roster, ledger.spec):
            self._training = training_of(ledger, round_, base, me)
            self.ctx.do(Train(self._training))

    def drop(self) -> None:
        """Stop the work and forget its results."""
        if self.is_training:
            self.ctx.do(StopTraining())
        self.record, self._evaluation, self._training = None, None, None
        self._results = []

    @property
    def is_training(self) -> bool:
        """Whether the worker is training speculatively."""
        return self._training is not None and not any(isinstance(one, Trained) for one in self._results)

    def take(self, result: TrainProgress | Trained | Evaluated) -> None:
        """Keep a result of the worker if it belongs to the speculation."""
        if isinstance(result, Evaluated):
            if result.job == self._evaluation:
                self._results.append(result)
        elif self._training is not None and (
            (result.job.run, result.job.round) == (self._training.run, self._training.round)
        ):
            if isinstance(result, Trained) and not self.ctx.policy.fits(result.job, due_of(self._training)):
                return
            self._results = [one for one in self._results if not isinstance(one, TrainProgress)]
            self._results.append(result)

    def failed(self, failed: WorkFailed) -> bool:
        """Drop the speculation if *failed* is one of its jobs; return whether it is.

        The job is tried again after the commit, and only a failure then is reported.
        """
        effect = failed.effect
        is_mine = isinstance(effect, Train | Evaluate) and effect.job in (self._training, self._evaluation)
        if is_mine:
            self.drop()
        return is_mine

    def hand_over(self, local_trainer: LocalTrainer) -> list[TrainProgress | Trained | Evaluated]:
        """Move the work to *local_trainer*, of the round that has just opened; return its results so far."""
        results, training = self._results, self._training
        local_trainer.evaluation_asked = self._evaluation
        if training is not None:
            local_trainer.take_over(training)
        self.record, self._evaluation, self._training, self._results = None, None, None, []
        return results

    def pinned(self) -> set[str]:
        """Return the digests of the update that waits for the commit, if there is one."""
        results = [one.result for one in self._results if isinstance(one, Trained)]
        return {digest for one in results for digest in (one.digest, one.control) if digest}
