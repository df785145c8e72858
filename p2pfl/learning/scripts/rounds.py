"""`p2pfl.rounds`: a training loop of the user's own takes part in a federation.

::

    for round in p2pfl.rounds(model, metrics=evaluate):
        train_one_epoch(model, loader)
        round.submit(examples=len(loader.dataset))

Everything happens in the thread of the loop, between two passes of its body: the commands of the node are
executed there, and each training is one pass. Weights are loaded in place, so an optimizer that was created
before the loop keeps its parameters, and its state too.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal, Protocol

from blake3 import blake3
from torch import nn

from p2pfl.cards import DataCard, Measures
from p2pfl.disclosure import DIVERGED
from p2pfl.errors import BlobError, NetworkError, P2pflError, TaskError, UserError
from p2pfl.learning import commands, weights
from p2pfl.learning.local_files import memory_folder
from p2pfl.learning.local_model import LocalModel
from p2pfl.learning.memory import RunMemory
from p2pfl.learning.scripts.frames import (
    ENVIRONMENT_VARIABLE,
    NO_METRICS_GIVEN,
    TrainerEndpoint,
    TrainerRunOver,
)
from p2pfl.learning.scripts.metrics import MetricsFunction, ScriptMetrics, checked_count
from p2pfl.learning.scripts.node_link import NodeGoneError, NodeLink
from p2pfl.learning.training import describe_device
from p2pfl.spec import RunSpec, ScriptTask, Share, describe_task, share_of
from p2pfl.work import TrainingResult

REPORT_SECONDS = 0.25
"""Minimum interval of two progress reports."""

MAX_REASON = 300
"""Maximum number of characters of the reason of a failure."""


class NodeHandle(Protocol):
    """A node beside this program: the interface of what `p2pfl.node` returns."""

    def trainer(self) -> TrainerEndpoint | None:
        """Return where a trainer connects; None if the run is over.

        Raises:
            UserError: the node has ended for another reason.
        """

    def why_ended(self) -> str:
        """Wait for the end of the node; return the reason as a sentence, empty if its run is over."""


class TrainingRound:
    """One round of the run, in which the loop trains once."""

    def __init__(self, trainer: _Trainer, command: commands.RunTraining) -> None:
        job = command.job
        self.number = job.trained + 1
        """Number of the round, from 1. A round can come twice: after an interrupted loop, or when the model
        that it began with is replaced."""
        self.rounds = job.rounds
        """Number of rounds that the run is to have; it may be extended."""
        self._trainer = trainer
        self._command = command
        self._started = time.monotonic()
        self._is_submitted = False

    def __repr__(self) -> str:
        return f"<round {self.number} of {self.rounds}>"

    def submit(self, *, examples: int = 1, loss: float | None = None, steps: int | None = None) -> None:
        """Hand in the weights that the model has now, as this device's update of the round.

        Args:
            examples: number of examples that it was trained on: the weight of the update in the average.
            loss: mean training loss, for people.
            steps: number of optimizer steps, for strategies that need it.

        Raises:
            UserError: the round was submitted before.
            TaskError: a value is out of range, or a weight is NaN or infinite.
            NetworkError: the node has ended.
        """
        self._check_open()
        count = checked_count(examples, "The number of examples")
        done = 1 if steps is None else checked_count(steps, "The number of steps")
        if loss is not None and not math.isfinite(loss):
            raise TaskError(f"{DIVERGED}: the loss of round {self.number} is {loss}.")
        self._trainer.submit(self._command, count, float(loss or 0.0), done, time.monotonic() - self._started)
        self._is_submitted = True

    def progress(self, done: int, total: int) -> None:
        """Tell that *done* of *total* batches are done. It may be called after every batch.

        Raises:
            UserError: the round was submitted before.
            NetworkError: the node has ended.
        """
        self._check_open()
        self._trainer.report(self._command.id, done, total, time.monotonic() - self._started)

    def _check_open(self) -> None:
        if self._is_submitted:
            raise UserError(
                f"Round {self.number} was submitted before: call submit once in each pass of the loop, at "
                "its end."
            )

    def check_submitted(self) -> None:
        """Check that the pass of the loop has submitted.

        Raises:
            UserError: it has not.
        """
        if not self._is_submitted:
            raise UserError(
                f"Round {self.number} was not submitted: call round.submit(examples=...) in each pass of the "
                "loop, at its end."
            )


class _Trainer:
    """Executes the commands of the node with the model of the user."""

    def __init__(self, model: nn.Module, metrics: ScriptMetrics, link: NodeLink) -> None:
        self._model = model
        self._local: LocalModel | None = None
        """What is exchanged of the model, in the run of the last command."""
        self._metrics = metrics
        self._link = link
        self._source = _source()
        self._took = 0.0
        """Duration of the last training in seconds; 0: unknown."""
        self._reported = -math.inf

    def rounds(self) -> Iterator[TrainingRound]:
        """Execute commands until the run ends; yield each training."""
        while True:
            command = self._link.take()
            if isinstance(command, TrainerRunOver):
                self._load_final(command.path)
                return
            if not isinstance(command, commands.RunTraining):
                self._link.send(self._answer(command))
            elif self._link.is_stopped(command.id):
                self._link.send(commands.JobStopped(command.id))
            elif (failure := self._load(command)) is not None:
                self._link.send(failure)
            else:
                if self._took:  # the aggregator waits as long as a training takes
                    self._link.send(commands.TrainJobProgress(command.id, 0, 1, self._took))
                round_ = TrainingRound(self, command)
                yield round_
                round_.check_submitted()

    def submit(
        self, command: commands.RunTraining, examples: int, loss: float, steps: int, seconds: float
    ) -> None:
        """Write the update and send it, unless the training was stopped meanwhile."""
        if name := weights.not_finite(self._model):
            raise TaskError(
                f"{DIVERGED}: {name!r} has a number that is not finite (NaN or infinity). Use a smaller "
                "learning rate."
            )
        self._took = seconds
        if self._link.is_stopped(command.id):
            self._link.send(commands.JobStopped(command.id))
            return
        model, job = self._model_of(command.job.spec), command.job
        digest = model.save(Path(command.path), durable=False)
        if remembered := model.to_remember():
            memory = RunMemory(memory_folder(Path(command.folder)), job.run)
            memory.remember(job.round, digest, remembered, keep=job.memory)
        card = self._card(share_of(command.job.spec.task), examples)
        result = TrainingResult(digest=digest, part=card, steps=steps, loss=loss, seconds=seconds)
        self._link.send(commands.TrainingDone(command.id, result))

    def report(self, job: int, done: int, total: int, seconds: float) -> None:
        """Report progress at most every `REPORT_SECONDS`."""
        now = time.monotonic()
        if 0 < done <= total and now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._link.send(commands.TrainJobProgress(job, done, total, seconds / done * total))

    def _answer(self, command: commands.Command) -> commands.Answer:
        """Execute a command that is no training. An error of the user's metrics is raised in the loop."""
        match command:
            case commands.DescribeJob():
                return self._describe(command)
            case commands.CreateJob():
                return self._create(command)
            case commands.RunEvaluation():
                if not self._metrics.are_given:
                    return commands.JobFailed(command.id, NO_METRICS_GIVEN, "task")
                failure = self._load(command)
                share = share_of(command.job.spec.task)
                return failure or commands.EvaluationDone(command.id, self._metrics.evaluate(share))
            case _:
                raise AssertionError(f"no command of a trainer: {command!r}")

    def _describe(self, command: commands.DescribeJob) -> commands.Answer:
        task, model = command.spec.task, self._model
        if not isinstance(task, ScriptTask):
            return commands.JobFailed(command.id, f"the run is for {describe_task(task)}", "task")
        parameters = [one for one in model.parameters() if one.requires_grad]
        device = next((one.device for one in model.parameters()), None)
        return commands.DescribeDone(
            command.id,
            schema=None if command.agreement is None else self._model_of(command.spec).schema,
            card=self._card(task.share, 1),
            test_examples=self._metrics.examples,
            parameters=sum(one.numel() for one in parameters),
            device="cpu" if device is None else describe_device(device),
        )

    def _create(self, command: commands.CreateJob) -> commands.Answer:
        if name := weights.not_finite(self._model):
            raise TaskError(
                f"The model has a number that is not finite (NaN or infinity) in {name!r} before the first "
                "round: correct its initialisation."
            )
        model = self._model_of(command.spec)
        if command.folder:
            model.keep_frozen(Path(command.folder))
        return commands.CreateDone(command.id, model.save(Path(command.path)), model.schema)

    def _card(self, share: Share, examples: int) -> DataCard:
        measures: Measures = self._metrics.measures
        return DataCard(
            self._link.task,
            examples if share != "none" else 1,
            (),
            measures,
            share,
            source=self._source,
        )

    def _model_of(self, spec: RunSpec) -> LocalModel:
        """Return the model in a run of *spec*; personal tensors begin as they are in the first call."""
        personal = spec.personalisation.personal
        if self._local is None or self._local.personal != personal:
            self._local = LocalModel(self._model, personal)
        return self._local

    def _load(self, command: commands.RunTraining | commands.RunEvaluation) -> commands.JobFailed | None:
        """Load the weights of a job; return the answer to the job if they cannot be loaded."""
        job, folder = command.job, Path(command.folder)
        memory = RunMemory(memory_folder(folder), job.run)
        try:
            model = self._model_of(job.spec)
            model.changed()  # by the loop
            model.load(folder / job.model, job.memory, lambda: memory.recall(job.memory))
        except P2pflError as error:
            return commands.JobFailed(command.id, str(error)[:MAX_REASON], "internal")
        return None

    def _load_final(self, path: str) -> None:
        """Leave the loop with the final model of the run, if it is here."""
        if path:
            local = self._local or LocalModel(self._model)
            try:
                local.take_frozen(Path(path))
                weights.load_into(Path(path), self._model, personal=local.personal)
            except BlobError as error:
                raise NetworkError(f"The final model of the run cannot be loaded: {error}") from error


def _source() -> str:
    """Return the digest of the script that the node started; empty in other programs."""
    if ENVIRONMENT_VARIABLE not in os.environ:
        return ""
    try:
        return blake3(Path(sys.argv[0]).read_bytes()).hexdigest()
    except OSError:
        return ""


def rounds(
    model: nn.Module,
    *,
    metrics: MetricsFunction | None = None,
    primary: tuple[str, Literal["max", "min"]] = ("accuracy", "max"),
    node: NodeHandle | None = None,
    loss: str = "own",
) -> Generator[TrainingRound, None, None]:
    """Yield the rounds of a federated run; in each of them, train *model* and submit it.

    When a round is yielded, *model* has the weights that all devices agreed on; the loop trains them and
    calls `TrainingRound.submit`. The loop ends with the run, and *model* then has the final weights. It may
    be interrupted and begun again: the node stays in the federation, and the open round is yielded again.

    A round that the others close meanwhile cannot interrupt the loop: its update is then dropped, and the
    next round is yielded. So rounds can be missing, and after an interruption one can come twice.

    Args:
        model: the devices exchange its parameters that train and the buffers of modules that train, except
            those of `--personal`; all devices need the same ones. The values of its frozen parameters become
            those of the run.
        metrics: called with *model* in evaluation mode, without gradients. It returns means by name, such as
            `{"accuracy": 0.9, "loss": 0.3}`, and perhaps "examples", the number of examples that they are of.
            All devices need the same names. It is called once at the start too.
        primary: the metric that compares models, and whether "max" or "min" is better.
        node: what `p2pfl.node` returned; None: the node that started this script with `--script`.
        loss: a name for the loss of the training, which all devices need to give alike.

    Raises:
        UserError: there is no node, or a pass of the loop did not submit.
        TaskError: the metrics cannot be used.
        NetworkError: the node has ended before the run.
    """
    measured = ScriptMetrics(model, metrics, primary, loss)
    endpoint = _endpoint(node)
    if endpoint is None:
        return
    try:
        link = NodeLink(endpoint)
        try:
            yield from _Trainer(model, measured, link).rounds()
        finally:
            link.close()
    except NodeGoneError as error:
        if node is None:
            raise
        if reason := node.why_ended():
            raise NetworkError(reason) from error


def _endpoint(node: NodeHandle | None) -> TrainerEndpoint | None:
    if node is not None:
        return node.trainer()
    text = os.environ.get(ENVIRONMENT_VARIABLE)
    if text is None:
        raise UserError(
            "There is no node: start this script with `p2pfl node --script FILE`, or give p2pfl.rounds a "
            "node with node=p2pfl.node(...)."
        )
    return TrainerEndpoint.from_text(text)
