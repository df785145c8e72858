"""A member's head start: its own work on a proposed model, begun before the model is committed.

From the moment a proposed model's bytes are here and checked until a quorum has flushed and accepted it, a
member's worker has nothing to do. Almost every proposal is committed, so it evaluates that model and trains
on it meanwhile. Nothing leaves this node before the commit: then the next round's `LocalTrainer` takes the
work over if it was that record's, and otherwise it is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfl.core.context import Context
from p2pfl.core.effects import Evaluate, StopTraining, Train
from p2pfl.core.inputs import Evaluated, Trained, TrainProgress, WorkFailed
from p2pfl.core.ledger import Ledger
from p2pfl.core.local_trainer import LocalTrainer, evaluation_of, training_of
from p2pfl.core.roster import contains, selection
from p2pfl.messages import Record
from p2pfl.work import EvaluationJob, TrainingJob


@dataclass
class Speculation:
    """What this member does for the round after the one that is open."""

    ctx: Context
    ledger: Ledger
    record: Record | None = None
    """The proposal that is worked on; None while there is none."""
    _evaluation: EvaluationJob | None = None
    _training: TrainingJob | None = None
    """What the worker was asked for."""
    _results: list[TrainProgress | Trained | Evaluated] = field(default_factory=list)
    """What it has answered so far; of progress the last word."""

    def begin(self, record: Record) -> None:
        """Work on the model of *record*, which is here and checked, and on no other one any more."""
        if record == self.record:
            return
        self.drop()
        me = self.ctx.me
        if record.then != "go" or not contains(record.roster, me):
            return
        self.record = record
        spec, round_ = self.ledger.spec, record.round + 1
        self._evaluation = evaluation_of(record.run, record.round, spec, record.model, record.roster, me)
        self.ctx.do(Evaluate(self._evaluation))
        trains = record.trained < max(record.rounds, self.ledger.wanted_rounds)
        if trains and me.node in selection(record.run, round_, record.roster, spec.participation.sample):
            self._training = training_of(record.run, round_, spec, record.model, record.roster, me)
            self.ctx.do(Train(self._training))

    def drop(self) -> None:
        """Give the work up."""
        if self.is_training:
            self.ctx.do(StopTraining())
        self.record, self._evaluation, self._training = None, None, None
        self._results = []

    @property
    def is_training(self) -> bool:
        """Whether the worker trains for it."""
        return self._training is not None and not any(isinstance(one, Trained) for one in self._results)

    def take(self, result: TrainProgress | Trained | Evaluated) -> None:
        """Keep a result of the worker if it is of this work."""
        if isinstance(result, Evaluated):
            if result.job == self._evaluation:
                self._results.append(result)
        elif self._training is not None and (
            (result.job.run, result.job.round) == (self._training.run, self._training.round)
        ):
            if isinstance(result, Trained) and not self.ctx.policy.fits(result.job, due(self._training)):
                return
            self._results = [one for one in self._results if not isinstance(one, TrainProgress)]
            self._results.append(result)

    def failed(self, failed: WorkFailed) -> bool:
        """Give the work up if some of it failed: once committed, it is tried again, and told.

        Return whether it was this work.
        """
        effect = failed.effect
        is_mine = isinstance(effect, Train | Evaluate) and effect.job in (self._training, self._evaluation)
        if is_mine:
            self.drop()
        return is_mine

    def hand_over(self, local_trainer: LocalTrainer) -> list[TrainProgress | Trained | Evaluated]:
        """Let *local_trainer*, of the round that has just opened, have the work; return its results."""
        results, training = self._results, self._training
        local_trainer.evaluation_asked = self._evaluation
        if training is not None:
            local_trainer.take_over(training)
        self.record, self._evaluation, self._training, self._results = None, None, None, []
        return results

    def pinned(self) -> set[str]:
        """Return the update that waits for the commit."""
        return {one.result.digest for one in self._results if isinstance(one, Trained)}


def due(training: TrainingJob) -> tuple[str, int, str]:
    """Return what an update of *training* is for, as `Policy.fits` compares it."""
    return training.run, training.round, training.model
