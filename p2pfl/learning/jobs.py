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

import msgspec
import torch
from torch import nn

from p2pfl.agreement import merge_cards, misfit
from p2pfl.card_checks import card_flaw
from p2pfl.cards import Agreement, DataCard
from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.learning import commands, training, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.batches import Batches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.memory import RunMemory, memory_folder
from p2pfl.learning.objective import Classification, Objective
from p2pfl.learning.optimizers import build_optimizer, scheduled
from p2pfl.learning.own.code import explain
from p2pfl.learning.own.objective import UserObjective
from p2pfl.learning.own.strategy import OwnStrategy
from p2pfl.learning.slots import Slots, read_slots, slot_pieces
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.strategies.local_rules import local_rule
from p2pfl.schema import Schema
from p2pfl.spec import (
    BuiltinTask,
    FileTask,
    PicturesTask,
    RunSpec,
    ScriptTask,
    TableTask,
    model_name,
    share_of,
    slot_schema,
    task_name,
)
from p2pfl.strategy_specs import OwnStrategySpec, memory_slots, state_slots, strategy_name, trains_differently
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult

PROGRESS_SECONDS = 0.25
"""Minimum interval of progress reports: a screen shows no more, and each report wakes up the node."""


class _StoppedError(BaseException):
    """The node stopped this training. It is no `Exception`, which a loop of the user's own may catch."""


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
        self._own_strategy = OwnStrategy(self._places.strategy)
        self._device: torch.device | None = None
        self._local: tuple[tuple[object, ...], LocalTask] | None = None
        self._prepared: tuple[tuple[object, ...], PreparedTask] | None = None
        self._module: tuple[tuple[object, ...], nn.Module] | None = None
        self._holds: tuple[int, int, int] | None = None
        """The file whose parameters the module has: device, inode, modification time. None: unknown."""

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
        except Exception as error:
            explained = explain(error, self._places.code)
            if explained is None:
                raise
            raise explained from error

    def _do(self, command: commands.Command, pacer: _Pacer) -> commands.Answer:
        match command:
            case commands.DescribeJob():
                return self._describe(command)
            case commands.CreateJob():
                return self._create(command)
            case commands.CheckStrategy():
                return commands.StrategyChecked(command.id, self._own_strategy.check(command.spec))
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
        local = self._open(command.spec)
        task, agreed, card = command.spec.task, command.agreement, local.card
        if isinstance(command.spec.strategy, OwnStrategySpec):
            source = self._own_strategy.check(command.spec)
            card = msgspec.structs.replace(card, strategy_source=source)
        if flaw := card_flaw(task, card):
            raise TaskError(f"The data of this device cannot be used: {flaw}.")
        if agreed is not None and misfit(task, agreed, card):
            # The node names the misfit; a model for these data cannot be built.
            return self._described(command, local, card, (), 0)
        # Before the devices agree, the model that this device's data alone would make is built. Most runs
        # have the same one, and a mistake in a user's model is found before the device waits for others.
        agreement = command.agreement or merge_cards(command.spec.task, {"": card})[0]
        schema, parameters = None, 0
        if agreement is not None:
            with torch.random.fork_rng():
                module = self._reused(command.spec, agreement)
            schema = weights.schema_of(module) if command.agreement is not None else None
            parameters = sum(one.numel() for one in module.parameters() if one.requires_grad)
        return self._described(command, local, card, schema, parameters)

    def _described(
        self,
        command: commands.DescribeJob,
        local: LocalTask,
        card: DataCard,
        schema: Schema | None,
        parameters: int,
    ) -> commands.DescribeDone:
        return commands.DescribeDone(
            command.id,
            schema=schema,
            card=card,
            test_examples=local.test_examples,
            parameters=parameters,
            device=training.describe_device(self._on()),
        )

    def _create(self, command: commands.CreateJob) -> commands.CreateDone:
        self._module = None  # else a second one would be in memory beside it
        module = self._initial(command.spec, command.agreement)
        schema = weights.schema_of(module)  # raises if a dtype is none of a model file
        if name := weights.not_finite(module):
            raise TaskError(
                f"The initial model has a number that is not finite (NaN or infinity) in {name!r}, a "
                "trainable parameter: correct its initialisation in the task, or make it a buffer."
            )
        digest = weights.save(Path(command.path), module)
        self._keep(command.spec, command.agreement, module)
        return commands.CreateDone(command.id, digest, schema)

    def _train(self, command: commands.RunTraining, pacer: _Pacer) -> commands.TrainingDone:
        job, spec = command.job, command.job.spec
        started = time.monotonic()
        prepared = self._prepare(spec, job.agreement)
        card = prepared.part_card(job.partition)
        options = scheduled(spec.training, job.trained, job.rounds)
        module = self._loaded(job, command.folder)
        self._holds = None  # training changes the parameters
        seed = training.derive_seed("train", spec.seed, job.round, job.partition)
        memory = RunMemory(memory_folder(Path(command.folder)), job.run)
        end, planned, deadline = LocalEnd(), 0, options.deadline
        if prepared.train is not None:
            steps, loss = prepared.train(module, job.partition, options, job.round, seed, pacer)
        else:
            part = prepared.train_part(job.partition)
            planned, pacer.deadline = training.planned_steps(part.examples, options), deadline
            objective = _weighted(prepared.objective, part) if options.class_weights else prepared.objective
            rule = local_rule(
                LocalStart(
                    spec,
                    module,
                    part,
                    objective,
                    state=lambda: _read_state(job, module, command.folder),
                    memory=memory.recall(job.memory) if memory_slots(spec.strategy) else {},
                )
            )
            try:
                steps, loss = training.train(
                    module,
                    part,
                    objective,
                    options,
                    seed=seed,
                    after_batch=pacer,
                    make_optimizer=prepared.optimizer(job) if prepared.optimizer else build_optimizer,
                    rule=rule,
                    is_over=(lambda: time.monotonic() - started >= deadline) if deadline else None,
                )
            except training.DivergedError as error:
                raise TaskError(f"{task_name(spec.task)}: {error}") from error
            if rule is not None:
                end = rule.finish(steps, options.learning_rate)
                loss = end.loss if end.loss is not None else loss
        digest = weights.save(Path(command.path), module, durable=False)
        control = _write_control(command, module, end.control) if end.control else ""
        if end.memory:
            memory.remember(job.round, digest, end.memory, keep=job.memory)
        weights.release(module)  # it is unused until the next model arrives
        if share_of(spec.task) == "none":
            steps = planned = 1  # with the batch size they would tell the number of examples
        result = TrainingResult(
            digest=digest,
            part=card,
            steps=steps,
            loss=loss,
            seconds=time.monotonic() - started,
            control=control,
            planned=planned if planned > steps else 0,
        )
        return commands.TrainingDone(command.id, result)

    def _evaluate(self, command: commands.RunEvaluation) -> commands.EvaluationDone:
        job = command.job
        prepared = self._prepare(job.spec, job.agreement)
        module = self._loaded(job, command.folder)
        if prepared.evaluate is not None:
            evaluation = prepared.evaluate(module)
        else:
            part = prepared.test_part(job.part, job.parts)
            evaluation = training.evaluate(module, part, prepared.objective)
        if share_of(job.spec.task) == "none":
            evaluation = evaluation.as_one_example()
        return commands.EvaluationDone(command.id, evaluation)

    def _aggregate(self, command: commands.RunAggregation) -> commands.AggregationDone:
        state_path = Path(command.state_path) if command.state_path else None
        result = aggregate(
            command.job, Path(command.folder), Path(command.path), state_path, self._own_strategy
        )
        return commands.AggregationDone(command.id, result)

    # --- caches between jobs --------------------------------------------------------------------------------

    def _on(self) -> torch.device:
        if self._device is None:
            self._device = training.choose_device(self._wish)
        return self._device

    def _open(self, spec: RunSpec) -> LocalTask:
        """Return this device's data for the task of *spec*; they are read once, not once a round."""
        if self._local is None or self._local[0] != _data_key(spec):
            self._local = self._prepared = None  # frees the memory first
            self._local = (_data_key(spec), open_task(spec, self._places))
        return self._local[1]

    def _prepare(self, spec: RunSpec, agreement: Agreement) -> PreparedTask:
        key = (spec.task, spec.seed, agreement)
        if self._prepared is None or self._prepared[0] != key:
            local = self._open(spec)
            self._prepared = (key, local.prepare(spec, agreement, self._on()))
        prepared = self._prepared[1]
        if spec.training.class_weights:
            _classification(prepared.objective)
        if prepared.train is not None and trains_differently(spec.strategy):
            raise TaskError(
                f"The strategy {strategy_name(spec.strategy)} changes local training, and the task file of "
                f"{task_name(spec.task)!r} does it in its own train(): use another strategy, or remove it."
            )
        return prepared

    def _initial(self, spec: RunSpec, agreement: Agreement) -> nn.Module:
        """Return the initial model of a run. The seed determines its parameters on one machine."""
        prepared = self._prepare(spec, agreement)
        torch.manual_seed(spec.seed)
        return prepared.build()

    def _reused(self, spec: RunSpec, agreement: Agreement) -> nn.Module:
        """Return the cached module of the model of *spec*, on the device, with arbitrary parameters."""
        if self._module is None or self._module[0] != _model_key(spec, agreement):
            self._module = None  # frees its memory first
            return self._keep(spec, agreement, self._initial(spec, agreement))
        return self._module[1]

    def _keep(self, spec: RunSpec, agreement: Agreement, module: nn.Module) -> nn.Module:
        """Move *module*, a new one of the model of *spec*, to the device, and cache it."""
        self._module = (_model_key(spec, agreement), module.to(self._on()))
        self._holds = None
        return self._module[1]

    def _loaded(self, job: TrainingJob | EvaluationJob, folder: str) -> nn.Module:
        """Return the cached module with the parameters of *job*'s model.

        The file is not read again if the module has its parameters already: a round evaluates its parent
        model before it trains it.

        Raises:
            BlobError: the file is not canonical, does not fit this model, or is damaged.
        """
        path, module = Path(folder, job.model), self._reused(job.spec, job.agreement)
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


def _read_state(job: TrainingJob, module: nn.Module, folder: str) -> Slots:
    """Return the strategy's state in the parent's record of *job*; zeros before the first aggregation.

    Raises:
        BlobError: it cannot be read.
    """
    schema, slots = weights.schema_of(module), state_slots(job.spec.strategy)
    if not job.state:
        state = module.state_dict()
        zeros = {one.name: torch.zeros_like(state[one.name], device="cpu") for one in schema}
        return dict.fromkeys(slots, zeros)
    with weights.ModelFile(Path(folder, job.state)) as file:
        return read_slots(file, schema, slots)


def _write_control(command: commands.RunTraining, module: nn.Module, control: Slots) -> str:
    """Write the *control* of an update; return its digest."""
    schema = weights.schema_of(module)
    pieces = slot_pieces(control, schema)
    return weights.write(
        Path(command.control_path), slot_schema(schema, tuple(control)), pieces, durable=False
    )


def _classification(objective: Objective) -> Classification | UserObjective:
    """Return *objective*, which is to have class weights.

    Raises:
        TaskError: the task has no classes, or a loss of its own.
    """
    if not isinstance(objective, Classification | UserObjective):
        raise TaskError(
            "--class-weights needs a task with classes and cross-entropy as its loss; start without it."
        )
    return objective


def _weighted(objective: Objective, part: Batches) -> Objective:
    """Return *objective* with the class weights of *part*.

    Raises:
        TaskError: they are not known.
    """
    if part.labels is None:
        raise TaskError("--class-weights needs the classes of the examples, and these data do not tell them.")
    return _classification(objective).weighted(part.labels)


def _model_key(spec: RunSpec, agreement: Agreement) -> tuple[object, ...]:
    """Return what determines the shape of the model of *spec*."""
    return task_name(spec.task), model_name(spec.task), agreement


def _data_key(spec: RunSpec) -> tuple[object, ...]:
    """Return what determines which data of this device a task reads, and how it holds some out."""
    task = spec.task
    match task:
        case BuiltinTask():
            return (task.name,)
        case FileTask():
            return (msgspec.structs.replace(task, partition="", partitions=1), spec.seed)
        case PicturesTask() | TableTask() | ScriptTask():
            return (task, spec.seed)
        case _:
            assert_never(task)


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
        self.deadline = 0.0
        """Seconds after which the training ends with the batch that it is in; 0: never."""

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
        if self.deadline:
            predicted = min(predicted, self.deadline + rate)
        self._report(commands.TrainJobProgress(self._job, done, total, predicted))
