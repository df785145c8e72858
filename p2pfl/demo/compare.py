"""Compares a demo's federated model with local-only models, each trained on the data of one node.

The comparison can begin while the terminal UI still has the terminal.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from p2pfl.cards import CLASSIFICATION, Agreement, Measures, is_number, metric_text
from p2pfl.demo.control import Control, LocalOnlyModel
from p2pfl.demo.results import JournalSummary
from p2pfl.demo.screen import Screen, draw_local_only
from p2pfl.learning.commands import TrainJobProgress
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.messages import Evaluation
from p2pfl.spec import RunSpec, partitions_of, with_options
from p2pfl.work import EvaluationJob, TrainingJob

NEW = "new"
"""Name of a model's file until its digest is known."""


class Comparison(msgspec.Struct, frozen=True):
    """The federated model and the local-only ones, all evaluated on the whole test split."""

    federated: float
    """The primary metric."""
    local_only: tuple[LocalOnlyModel, ...]
    epochs: int
    """Of each local-only model: as many as the whole run had."""
    measures: Measures = CLASSIFICATION

    def lines(self) -> list[str]:
        """Say how they compare."""
        is_max = self.measures.direction == "max"
        usable = [one for one in self.local_only if is_number(one.value)] or self.local_only
        best = (max if is_max else min)(usable, key=lambda one: one.value)
        mean = sum(one.value for one in self.local_only) / len(self.local_only)
        return [
            f"federated model           {metric_text(self.federated)}   {self._verdict(best.value)}",
            f"best model trained alone  {metric_text(best.value)}   "
            f"{best.name}: {best.examples} samples, {self.epochs} epochs",
            f"mean of {len(self.local_only)} trained alone   {metric_text(mean)}",
        ]

    def _verdict(self, best: float) -> str:
        """Say whether the federated model is better than the best lone one, with the *best* value."""
        if not self.measures.is_better(self.federated, best):
            return (
                "not above the best lone one" if self.measures.direction == "max" else "no better than that"
            )
        if not is_number(best):
            return "and no lone one has a finite value"
        gain = abs(self.federated - best)
        if self.measures.primary == "accuracy":
            return f"{100 * gain:.1f} points above the best lone one"
        side = "above" if self.measures.direction == "max" else "below"
        return f"{self.measures.primary} {metric_text(gain)} {side} the best lone one"


async def fetch_data(spec: RunSpec, places: DataPlaces) -> None:
    """Let a worker load the data of *spec* once, which downloads them if they are missing.

    Raises:
        WorkerError: the worker process failed.
        TaskError: they cannot be had.
    """
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    try:
        await worker.describe(spec)
    finally:
        await worker.close()


async def compare(
    journal: JournalSummary,
    places: DataPlaces,
    on_progress: Callable[[str, float], None],
    on_model: Callable[[LocalOnlyModel], None],
) -> Comparison:
    """Evaluate the final model of *journal*, and a local-only model for each founding member.

    *places* is where data sets are; *on_progress* gets a node's name and the share of its training that is
    done, *on_model* each local-only model.

    Raises:
        WorkerError: the worker process failed.
        TaskError: its task cannot be loaded.
    """
    run = journal.run
    spec = with_options(run.spec, epochs=run.trained * run.spec.training.epochs)
    worker = Worker(WorkerSettings(device="cpu", threads=1, places=places))
    models = []
    try:
        with tempfile.TemporaryDirectory(prefix="p2pfl-compare-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            agreement = run.agreement
            federated = await _evaluate(worker, spec, agreement, journal.model)
            initial = folder / (await worker.create(spec, agreement, folder / NEW)).digest
            (folder / NEW).rename(initial)
            for member, slot in journal.slots.items():
                partition = slot % partitions_of(spec.task)
                job = TrainingJob("", 1, spec, agreement, initial.name, partition)
                models.append(await _train_local_only(worker, job, member, initial, on_progress))
                on_model(models[-1])
    finally:
        await worker.close()
    measures = run.agreement.measures
    value = federated.metrics[measures.primary]
    return Comparison(value, tuple(models), spec.training.epochs, measures)


async def _train_local_only(
    worker: Worker,
    job: TrainingJob,
    name: str,
    initial: Path,
    on_progress: Callable[[str, float], None],
) -> LocalOnlyModel:
    """Do *job* with the model at *initial*, for the node *name*, and evaluate the result."""

    def report(progress: TrainJobProgress) -> None:
        on_progress(name, progress.done / max(1, progress.total))

    on_progress(name, 0.0)
    training = await worker.train(job, initial.parent, initial.with_name(NEW), report)
    assert training is not None, "no caller stops it"
    trained = initial.with_name(NEW).rename(initial.with_name(training.digest))
    evaluated = await _evaluate(worker, job.spec, job.agreement, trained)
    value = evaluated.metrics[job.agreement.measures.primary]
    return LocalOnlyModel(name, training.part.examples, value)


async def _evaluate(worker: Worker, spec: RunSpec, agreement: Agreement, model: Path) -> Evaluation:
    """Evaluate the *model*, whose file has its digest for a name, on the whole test split."""
    return await worker.evaluate(EvaluationJob("", 1, spec, agreement, model.name, 0, 1), model.parent)


class ComparisonTask:
    """Makes the comparison once, in the background, and reports each local-only model when it is trained."""

    def __init__(self, places: DataPlaces, screen: Screen, control: Control) -> None:
        """Compare nothing yet; *places* is where data sets are."""
        self._places = places
        self._screen = screen
        self._control = control
        self._task: asyncio.Task[Comparison] | None = None

    def begin(self, journal: JournalSummary) -> None:
        """Begin with the run of *journal*, unless it was begun."""
        if self._task is None:
            self._task = asyncio.create_task(
                compare(journal, self._places, self._show_progress, self._control.report)
            )

    async def result(self, journal: JournalSummary) -> Comparison:
        """Return how the models compare, from the run of *journal*.

        Raises:
            WorkerError: the worker process failed.
            TaskError: its task cannot be loaded.
        """
        self.begin(journal)
        assert self._task is not None
        return await self._task

    async def close(self) -> None:
        """Cancel what has not ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _show_progress(self, name: str, share: float) -> None:
        self._screen.show(draw_local_only(name, share))
