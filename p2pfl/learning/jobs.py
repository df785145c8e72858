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
from p2pfl.learning.exchange import restore
from p2pfl.learning.local_files import memory_folder
from p2pfl.learning.local_model import LocalModel, of_strategy
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.local_training import classification, weighted
from p2pfl.learning.memory import RunMemory
from p2pfl.learning.optimizers import build_optimizer, scheduled
from p2pfl.learning.own.code import explain
from p2pfl.learning.own.strategy import OwnStrategy
from p2pfl.learning.pacer import Pacer, TrainingStoppedError
from p2pfl.learning.personal import Adapting, ditto_in, fine_tune, train_ditto, training_for, with_personal
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.strategies.local_rules import local_rule
from p2pfl.messages import Evaluation
from p2pfl.schema import Schema
from p2pfl.spec import (
    BuiltinTask,
    FileTask,
    PicturesTask,
    RunSpec,
    ScriptTask,
    TableTask,
    adapts_to_devices,
    is_particular,
    model_name,
    personal_flaw,
    share_of,
    task_name,
)
from p2pfl.strategy_specs import (
    DittoSpec,
    OwnStrategySpec,
    memory_slots,
    state_slots,
    strategy_name,
    trains_differently,
)
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
        self._keep(command.spec, command.agreement, model)
        return commands.CreateDone(command.id, digest, schema)

    def _train(self, command: commands.RunTraining, pacer: Pacer) -> commands.TrainingDone:
        job, spec = command.job, command.job.spec
        started = time.monotonic()
        prepared = self._prepare(spec, job.agreement)
        card = prepared.part_card(job.partition)
        options = scheduled(spec.training, job.trained, job.rounds)
        memory = _memory(job, command.folder)
        model = self._loaded(job, command.folder)
        model.changed()
        module = model.module
        seed = training.derive_seed("train", spec.seed, job.round, job.partition)
        end, is_ditto = LocalEnd(), isinstance(spec.strategy, DittoSpec)
        after_batch = pacer.halves()[0] if is_ditto else pacer
        planned, deadline = 0, options.deadline
        if prepared.train is not None:
            steps, loss = prepared.train(module, job.partition, options, job.round, seed, after_batch)
        else:
            part = prepared.train_part(job.partition)
            planned, pacer.deadline = training.planned_steps(part.examples, options), deadline
            objective = weighted(prepared.objective, part) if options.class_weights else prepared.objective
            rule = local_rule(
                LocalStart(
                    spec,
                    module,
                    part,
                    objective,
                    state=lambda: model.read_slots(
                        Path(command.folder, job.state) if job.state else None, state_slots(spec.strategy)
                    ),
                    memory=of_strategy(memory.recall(job.memory)) if memory_slots(spec.strategy) else {},
                    shared=model.shared,
                )
            )
            try:
                steps, loss = training.train(
                    module,
                    part,
                    objective,
                    options,
                    seed=seed,
                    after_batch=after_batch,
                    make_optimizer=prepared.optimizer(job) if prepared.optimizer else build_optimizer,
                    rule=rule,
                    is_over=(lambda: time.monotonic() - started >= deadline) if deadline else None,
                )
            except training.DivergedError as error:
                raise TaskError(f"{task_name(spec.task)}: {error}") from error
            if rule is not None:
                end = rule.finish(steps, options.learning_rate)
                loss = end.loss if end.loss is not None else loss
        digest = model.save(Path(command.path), durable=False)
        remembered = {**end.memory, **model.to_remember()}
        if is_ditto:
            adapting = self._adapting(prepared, model, job, pacer.halves()[1])
            known = memory.recall(job.memory)
            remembered |= train_ditto(adapting, options, known, lambda: self._reload(job, command.folder))
        control = model.write_slots(Path(command.control_path), end.control) if end.control else ""
        if remembered:
            memory.remember(job.round, digest, remembered, keep=job.memory)
        model.release()  # it is unused until the next model arrives
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
        model = self._loaded(job, command.folder)

        def measure() -> Evaluation:
            if prepared.evaluate is not None:
                return prepared.evaluate(model.module)
            if is_particular(job.spec) and prepared.own_test_part is not None:
                part = prepared.own_test_part(job.part, job.parts, job.partition)
            else:
                part = prepared.test_part(job.part, job.parts)
            return training.evaluate(model.module, part, prepared.objective)

        evaluation = measure()
        if adapts_to_devices(job.spec):
            model.changed()
            if isinstance(job.spec.strategy, DittoSpec):
                restore(model.module, ditto_in(_memory(job, command.folder).recall(job.memory)))
            else:
                fine_tune(self._adapting(prepared, model, training_for(job), lambda _done, _total: None))
            evaluation = with_personal(evaluation, measure())
        if share_of(job.spec.task) == "none":
            evaluation = evaluation.as_one_example()
        return commands.EvaluationDone(command.id, evaluation)

    def _adapting(
        self, prepared: PreparedTask, model: LocalModel, job: TrainingJob, after_batch: training.AfterBatch
    ) -> Adapting:
        """Return what trains a second model in *model*'s module for *job*."""
        objective = prepared.objective
        if job.spec.training.class_weights and prepared.train is None:
            objective = weighted(objective, prepared.train_part(job.partition))
        return Adapting(prepared, model, job, objective, after_batch)

    def _reload(self, job: TrainingJob, folder: str) -> None:
        """Load the common model of *job* again, after the training of the update."""
        self._loaded(job, folder).changed()

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
            classification(prepared.objective)
        if flaw := personal_flaw(spec):
            raise TaskError(f"The options of the run exclude each other: {flaw}.")
        if prepared.train is not None and trains_differently(spec.strategy):
            raise TaskError(
                f"The strategy {strategy_name(spec.strategy)} changes local training, and the task file of "
                f"{task_name(spec.task)!r} does it in its own train(): use another strategy, or remove it."
            )
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
