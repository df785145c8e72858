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

from p2pfl.agreement import agree, misfit
from p2pfl.card_checks import card_flaw
from p2pfl.cards import Agreement, DataCard
from p2pfl.errors import TaskError, WorkerError
from p2pfl.learning import commands, training, weights
from p2pfl.learning.adapters import add_adapters
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_evaluation import evaluate_locally
from p2pfl.learning.local_files import memory_folder
from p2pfl.learning.local_model import LocalModel
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.local_training import LocalInputs, check_training, train_locally
from p2pfl.learning.memory import RunMemory
from p2pfl.learning.own.code import explain
from p2pfl.learning.own.strategy import OwnStrategy
from p2pfl.learning.pacer import Pacer, TrainingStoppedError
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
    task_name,
)
from p2pfl.strategy_specs import OwnStrategySpec, state_slots
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult


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
        self._model: tuple[tuple[object, ...], LocalModel] | None = None

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
            return self._do(command, Pacer(command.id, report, is_stopped))
        except TrainingStoppedError:
            return commands.JobStopped(command.id)
        except Exception as error:
            explained = explain(error, self._places.code)
            if explained is None:
                raise
            raise explained from error

    def _do(self, command: commands.Command, pacer: Pacer) -> commands.Answer:
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
        agreement = command.agreement or agree(command.spec, {"": card})[0]
        schema, parameters = None, 0
        if agreement is not None:
            with torch.random.fork_rng():
                model = self._reused(command.spec, agreement)
            schema = model.schema if command.agreement is not None else None
            parameters = sum(one.numel() for one in model.module.parameters() if one.requires_grad)
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
        self._model = None  # else a second one would be in memory beside it
        model = self._initial(command.spec, command.agreement)
        schema = model.schema  # raises if a dtype is none of a model file
        if name := weights.not_finite(model.module):
            raise TaskError(
                f"The initial model has a number that is not finite (NaN or infinity) in {name!r}, a "
                "trainable parameter: correct its initialisation in the task, or make it a buffer."
            )
        digest = model.save(Path(command.path))
        if command.folder:
            model.keep_frozen(Path(command.folder))
        self._keep(command.spec, command.agreement, model)
        return commands.CreateDone(command.id, digest, schema)

    def _train(self, command: commands.RunTraining, pacer: Pacer) -> commands.TrainingDone:
        job, spec = command.job, command.job.spec
        started = time.monotonic()
        prepared = self._prepare(spec, job.agreement)
        card = prepared.part_card(job.partition)
        memory = _memory(job, command.folder)
        model = self._loaded(job, command.folder)
        deadline = spec.training.deadline if prepared.train is None else 0.0
        pacer.deadline = deadline
        state = Path(command.folder, job.state) if job.state else None
        inputs = LocalInputs(
            state=lambda: model.read_slots(state, state_slots(spec.strategy)),
            recall=lambda: memory.recall(job.memory),
            is_over=(lambda: time.monotonic() - started >= deadline) if deadline else None,
        )
        trained = train_locally(prepared, job, model, inputs, pacer)
        digest = model.save(Path(command.path), durable=False)
        control = model.write_slots(Path(command.control_path), trained.control) if trained.control else ""
        if trained.memory:
            memory.remember(job.round, digest, trained.memory, keep=job.memory)
        model.release()  # it is unused until the next model arrives
        steps, planned = trained.steps, trained.planned
        if share_of(spec.task) == "none":
            steps = planned = 1  # with the batch size they would tell the number of examples
        result = TrainingResult(
            digest=digest,
            part=card,
            steps=steps,
            loss=trained.loss,
            seconds=time.monotonic() - started,
            control=control,
            planned=planned if planned > steps else 0,
        )
        return commands.TrainingDone(command.id, result)

    def _evaluate(self, command: commands.RunEvaluation) -> commands.EvaluationDone:
        job = command.job
        prepared = self._prepare(job.spec, job.agreement)
        model, memory = self._loaded(job, command.folder), _memory(job, command.folder)
        evaluation = evaluate_locally(prepared, job, model, lambda: memory.recall(job.memory))
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
        check_training(spec, prepared)
        return prepared

    def _initial(self, spec: RunSpec, agreement: Agreement) -> LocalModel:
        """Return the initial model of a run. The seed determines its parameters on one machine."""
        prepared = self._prepare(spec, agreement)
        torch.manual_seed(spec.seed)
        module = prepared.build()
        if spec.lora is not None:
            module = add_adapters(module, spec.lora)
        return LocalModel(module, spec.personalisation.personal)

    def _reused(self, spec: RunSpec, agreement: Agreement) -> LocalModel:
        """Return the cached model of *spec*, on the device, with arbitrary shared parameters."""
        if self._model is None or self._model[0] != _model_key(spec, agreement):
            self._model = None  # frees its memory first
            return self._keep(spec, agreement, self._initial(spec, agreement))
        return self._model[1]

    def _keep(self, spec: RunSpec, agreement: Agreement, model: LocalModel) -> LocalModel:
        """Move *model*, a new one of *spec*, to the device, and cache it."""
        model.module.to(self._on())
        self._model = (_model_key(spec, agreement), model)
        return model

    def _loaded(self, job: TrainingJob | EvaluationJob, folder: str) -> LocalModel:
        """Return the cached model with the parameters of *job*'s model, and with this device's own.

        Raises:
            BlobError: the file is not canonical, does not fit this model, or is damaged.
        """
        model = self._reused(job.spec, job.agreement)
        memory = _memory(job, folder)
        model.load(Path(folder, job.model), f"{job.run} {job.memory}", lambda: memory.recall(job.memory))
        return model


def _memory(job: TrainingJob | EvaluationJob, folder: str) -> RunMemory:
    return RunMemory(memory_folder(Path(folder)), job.run)


def _model_key(spec: RunSpec, agreement: Agreement) -> tuple[object, ...]:
    """Return what determines the shape of the model of *spec*, and its tensors that do not travel."""
    personal = spec.personalisation.personal
    return task_name(spec.task), model_name(spec.task), agreement, personal, spec.lora, spec.seed


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
