"""Executes the worker's commands: describes tasks, creates models, trains, evaluates and aggregates.

It is separate from `p2pfl.learning.worker`, the process around it, because it imports torch. The import takes
seconds, and the worker must serve its pipes before that. Task, data, model and partitions are cached between
jobs, since a run uses the same ones in every round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor, nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.learning import commands, partition, training, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.task import Data, Task, load_task
from p2pfl.messages import Evaluation
from p2pfl.spec import DataCard, LabelCount, RunSpec, task_name
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult

PROGRESS_SECONDS = 0.25
"""Minimum interval of progress reports: a screen shows no more, and each report wakes up the node."""


class _StoppedError(Exception):
    """The node stopped this training."""


class Jobs:
    """Executes commands on one device.

    Two threads may use it at the same time: one for `RunAggregation`, one for all other commands. *threads*
    is the number of torch's threads on the CPU; 0 is torch's default. *places* says where data sets are.
    """

    def __init__(self, device: str = "auto", threads: int = 0, places: DataPlaces | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._wish = device
        self._places = places or DataPlaces()
        self._device: torch.device | None = None
        self._task: tuple[str, Task, Data] | None = None
        self._module: tuple[tuple[str, str], nn.Module] | None = None
        self._holds: tuple[int, int, int] | None = None
        """The file whose parameters the module has: device, inode, modification time. None: unknown."""
        self._partitions: tuple[tuple[str, str, int, int], list[Tensor]] | None = None

    def do(
        self,
        command: commands.Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> commands.Answer:
        """Execute *command* and return its answer.

        A training reports its progress, and ends when *is_stopped* returns True.

        Raises:
            P2pflError: the command failed.
        """
        try:
            return self._do(command, _Pacer(command.id, report, is_stopped))
        except _StoppedError:
            return commands.JobStopped(command.id)

    def _do(self, command: commands.Command, pacer: _Pacer) -> commands.Answer:
        match command:
            case commands.DescribeJob():
                return self._describe(command)
            case commands.CreateJob():
                return self._create(command)
            case commands.RunTraining():
                return self._train(command, pacer)
            case commands.RunEvaluation():
                return self._evaluate(command)
            case commands.RunAggregation():
                return self._aggregate(command)
            case commands.StopJob():
                raise WorkerError("A StopJob is not executed as a job.")
            case _:
                assert_never(command)

    # --- jobs -----------------------------------------------------------------------------------------------

    def _describe(self, command: commands.DescribeJob) -> commands.DescribeDone:
        data = self._load(command.spec)[1]
        module = self._reused(command.spec)
        return commands.DescribeDone(
            command.id,
            schema=weights.schema_of(module),
            card=_card(command.spec, data, data.train_y),
            test_samples=len(data.test_y),
            parameters=sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
            device=training.describe_device(self._on()),
        )

    def _create(self, command: commands.CreateJob) -> commands.CreateDone:
        self._module = None  # else a second one would be in memory beside it
        module = self._initial(command.spec)
        weights.schema_of(module)  # raises if a dtype is none of a model file, which the next lines need
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and not weights.is_finite(parameter):
                raise TaskError(
                    f"The initial model has a number that is not finite (NaN or infinity) in {name!r}, a "
                    "trainable parameter: correct its initialisation in the task, or make it a buffer."
                )
        digest = weights.save(Path(command.path), module)
        self._keep(command.spec, module)
        return commands.CreateDone(command.id, digest)

    def _train(self, command: commands.RunTraining, pacer: _Pacer) -> commands.TrainingDone:
        job, spec = command.job, command.job.spec
        started = time.monotonic()
        part = self._partition(spec, job.partition)
        module = self._loaded(job, command.folder)
        self._holds = None  # training changes the parameters
        steps, loss = training.train(
            module,
            part,
            spec.training,
            epochs=spec.training.epochs,
            seed=training.derive_seed("train", spec.seed, job.round, job.partition),
            after_batch=pacer,
        )
        digest = weights.save(Path(command.path), module, durable=False)
        weights.release(module)  # it is unused until the next model arrives
        result = TrainingResult(
            digest=digest,
            part=_card(spec, self._load(spec)[1], part.y[part.rows]),
            steps=steps,
            loss=loss,
            seconds=time.monotonic() - started,
        )
        return commands.TrainingDone(command.id, result)

    def _evaluate(self, command: commands.RunEvaluation) -> commands.EvaluationDone:
        job = command.job
        data = self._load(job.spec)[1]
        # Every parts-th sample: so each part has all labels, even if the test split is sorted by label.
        y = data.test_y[job.part :: job.parts]
        if not len(y):
            raise TaskError(
                f"The test split has {len(data.test_y)} samples, too few for {job.parts} members."
            )
        module = self._loaded(job, command.folder)
        x = data.test_x[job.part :: job.parts]
        sums = training.evaluate(module, x, y, data.scaling)
        return commands.EvaluationDone(command.id, Evaluation(len(y), sums))

    @staticmethod
    def _aggregate(command: commands.RunAggregation) -> commands.AggregationDone:
        result = aggregate(command.job, Path(command.folder), Path(command.path))
        return commands.AggregationDone(command.id, result)

    # --- caches between jobs --------------------------------------------------------------------------------

    def _on(self) -> torch.device:
        if self._device is None:
            self._device = training.choose_device(self._wish)
        return self._device

    def _load(self, spec: RunSpec) -> tuple[Task, Data]:
        if self._task is None or self._task[0] != spec.task.name:
            task = load_task(spec)
            self._task = (spec.task.name, task, task.load(self._places).to(self._on()))
        return self._task[1:]

    def _initial(self, spec: RunSpec) -> nn.Module:
        """Return the initial model of a run. The seed determines its parameters on one machine."""
        task = load_task(spec)
        torch.manual_seed(spec.seed)
        return task.build(spec.task.model)

    def _reused(self, spec: RunSpec) -> nn.Module:
        """Return the cached module of the model of *spec*, on the device, with arbitrary parameters."""
        if self._module is None or self._module[0] != _model_key(spec):
            return self._keep(spec, self._initial(spec))
        return self._module[1]

    def _keep(self, spec: RunSpec, module: nn.Module) -> nn.Module:
        """Move *module*, a new one of the model of *spec*, to the device, and cache it."""
        self._module = (_model_key(spec), module.to(self._on()))
        self._holds = None
        return self._module[1]

    def _loaded(self, job: TrainingJob | EvaluationJob, folder: str) -> nn.Module:
        """Return the cached module with the parameters of *job*'s model.

        The file is not read again if the module has its parameters already: a round evaluates its parent
        model before it trains it.

        Raises:
            BlobError: the file is not canonical, does not fit this model, or is damaged.
        """
        path, module = Path(folder, job.model), self._reused(job.spec)
        try:
            status = path.stat()
        except OSError as error:
            raise BlobError(f"The model file {path} cannot be opened ({error.strerror}).") from error
        file = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if self._holds != file:
            self._holds = None
            weights.load_into(path, module, job.model)
            self._holds = file
        return module

    def _partition(self, spec: RunSpec, index: int) -> training.Partition:
        """Return the data of partition *index*."""
        data = self._load(spec)[1]
        if not 0 <= index < spec.task.partitions:
            raise TaskError(
                f"There is no partition {index}: the run has {spec.task.partitions}, numbered from 0."
            )
        key = (spec.task.name, spec.task.partition, spec.task.partitions, spec.seed)
        if self._partitions is None or self._partitions[0] != key:
            labels = data.train_y.tolist()
            partitions = partition.divide(
                labels, partition.parse(spec.task.partition), spec.task.partitions, spec.seed
            )
            self._partitions = (key, [torch.tensor(rows, device=data.train_y.device) for rows in partitions])
        return training.Partition(data.train_x, data.train_y, self._partitions[1][index], data.scaling)


def _model_key(spec: RunSpec) -> tuple[str, str]:
    """Return what tells the model of *spec* from others."""
    return spec.task.name, spec.task.model


def _card(spec: RunSpec, data: Data, labels: Tensor) -> DataCard:
    """Return the number of examples, in all and of each label, for *labels* [examples] int64."""
    counts = torch.bincount(labels.cpu(), minlength=len(data.classes)).tolist()
    named = tuple(LabelCount(name, count) for name, count in zip(data.classes, counts, strict=True))
    return DataCard(task_name(spec.task), len(labels), named)


class _Pacer:
    """Called after each batch: reports progress at most every `PROGRESS_SECONDS`; ends a stopped training."""

    def __init__(
        self, job: int, report: Callable[[commands.TrainJobProgress], None], is_stopped: Callable[[], bool]
    ) -> None:
        self._job = job
        self._report = report
        self._is_stopped = is_stopped
        self._started = time.monotonic()
        self._warm = self._started
        """Time of the end of the first batch. It warms up memory and kernels, so later predictions ignore
        it."""
        self._reported = self._started

    def __call__(self, done: int, total: int) -> None:
        if self._is_stopped():
            raise _StoppedError
        now = time.monotonic()
        if done == 1:
            self._warm = now
        # The second batch always reports, for an early prediction. The last does not: the answer follows.
        if done == total or (done != 2 and now - self._reported < PROGRESS_SECONDS):
            return
        self._reported = now
        rate = now - self._started if done == 1 else (now - self._warm) / (done - 1)
        predicted = now - self._started + rate * (total - done)
        self._report(commands.TrainJobProgress(self._job, done, total, predicted))
