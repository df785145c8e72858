"""One local training of a device: its data, the local part of the strategy, and the training loop.

The worker of a node and the clients of a simulation call the same function, so that both make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.batches import Batches
from p2pfl.learning.exchange import restore
from p2pfl.learning.local_model import LocalModel, Remembered, of_strategy
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.objective import Classification, Objective
from p2pfl.learning.optimizers import build_optimizer, scheduled
from p2pfl.learning.own.objective import UserObjective
from p2pfl.learning.personal import Adapting, train_ditto
from p2pfl.learning.slots import Slots
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.strategies.local_rules import local_rule
from p2pfl.spec import LocalTraining, RunSpec, personal_flaw, task_name
from p2pfl.strategy_specs import DittoSpec, memory_slots, strategy_name, trains_differently
from p2pfl.work import TrainingJob


@dataclass(frozen=True)
class LocalInputs:
    """What a training uses besides its job and the model."""

    state: Callable[[], Slots]
    """Returns the strategy's state; zeros before the first aggregation."""
    recall: Callable[[], Remembered]
    """Returns what the device remembers of the run; called only where it is of use."""
    part: Batches | None = None
    """Examples in place of those of the job's partition; None: its partition."""
    is_over: training.IsOver | None = None
    """Ends the training early, such as at its deadline; not the second one of Ditto."""


@dataclass(frozen=True)
class LocalResult:
    """A training that has ended. The module has the new parameters."""

    steps: int
    """Optimizer steps."""
    loss: float
    """The loss that the update's entry states."""
    memory: dict[str, Tensor]
    """What the device remembers if the update counts, by name."""
    control: Slots = field(default_factory=dict)
    """The control of the update; empty if the strategy has none."""
    planned: int = 0
    """Steps that the training was to take; 0 in a loop of the user's own."""


def train_locally(
    prepared: PreparedTask,
    job: TrainingJob,
    model: LocalModel,
    inputs: LocalInputs,
    after_batch: training.AfterBatch,
) -> LocalResult:
    """Do *job* with *model*, which has the parameters of the job's model and the device's own, in place.

    With Ditto the personal model is trained too, after the update.

    Raises:
        TaskError: the training diverged, or the user's own loop failed.
    """
    spec = job.spec
    options = scheduled(spec.training, job.trained, job.rounds)
    model.changed()
    if prepared.train is not None:
        seed = training.derive_seed("train", spec.seed, job.round, job.partition)
        steps, loss = prepared.train(model.module, job.partition, options, job.round, seed, after_batch)
        return LocalResult(steps, loss, model.to_remember())
    part = inputs.part if inputs.part is not None else prepared.train_part(job.partition)
    objective = weighted(prepared.objective, part) if options.class_weights else prepared.objective
    training_ = _Training(prepared, job, model, inputs, options, part, objective)
    try:
        if not isinstance(spec.strategy, DittoSpec):
            return training_.update(after_batch)
        first, second = _halves(after_batch)
        common = model.copied()
        result = training_.update(first)
        updated = model.copied()
        restore(model.module, common)
        adapting = Adapting(prepared, model, job, objective, second, part)
        personal = train_ditto(adapting, options, inputs.recall())
        restore(model.module, updated)
    except training.DivergedError as error:
        raise TaskError(f"{task_name(spec.task)}: {error}") from error
    return replace(result, memory={**result.memory, **personal})


@dataclass(frozen=True)
class _Training:
    """The training of an update, with p2pfl's own loop."""

    prepared: PreparedTask
    job: TrainingJob
    model: LocalModel
    inputs: LocalInputs
    options: LocalTraining
    part: Batches
    objective: Objective

    def update(self, after_batch: training.AfterBatch) -> LocalResult:
        """Train the module.

        Raises:
            DivergedError: the loss became NaN or infinite.
        """
        job, inputs, options, model = self.job, self.inputs, self.options, self.model
        spec, make = job.spec, self.prepared.optimizer
        remembered = of_strategy(inputs.recall()) if memory_slots(spec.strategy) else {}
        rule = None
        if trains_differently(spec.strategy):  # with tiny clients, the time to prepare this counts
            start = LocalStart(
                spec, model.module, self.part, self.objective, inputs.state, remembered, shared=model.shared
            )
            rule = local_rule(start)
        steps, loss = training.train(
            model.module,
            self.part,
            self.objective,
            options,
            seed=training.derive_seed("train", spec.seed, job.round, job.partition),
            after_batch=after_batch,
            make_optimizer=make(job) if make else build_optimizer,
            rule=rule,
            is_over=inputs.is_over,
        )
        end = rule.finish(steps, options.learning_rate) if rule is not None else LocalEnd()
        return LocalResult(
            steps,
            end.loss if end.loss is not None else loss,
            memory={**end.memory, **model.to_remember()},
            control=end.control,
            planned=training.planned_steps(self.part.examples, options),
        )


def _halves(after_batch: training.AfterBatch) -> tuple[training.AfterBatch, training.AfterBatch]:
    """Return what is called in place of *after_batch* after each batch of two equally long trainings."""
    return lambda done, total: after_batch(done, 2 * total), lambda done, total: after_batch(
        total + done, 2 * total
    )


def check_training(spec: RunSpec, prepared: PreparedTask) -> None:
    """Refuse a run of *spec* whose options its task cannot follow.

    Raises:
        TaskError: it cannot: class weights without classes, options that exclude each other, or a strategy
            that changes a loop of the user's.
    """
    if spec.training.class_weights:
        classification(prepared.objective)
    if flaw := personal_flaw(spec):
        raise TaskError(f"The options of the run exclude each other: {flaw}.")
    if prepared.train is not None and trains_differently(spec.strategy):
        raise TaskError(
            f"The strategy {strategy_name(spec.strategy)} changes local training, and the task file of "
            f"{task_name(spec.task)!r} does it in its own train(): use another strategy, or remove it."
        )


def classification(objective: Objective) -> Classification | UserObjective:
    """Return *objective*, which is to have class weights.

    Raises:
        TaskError: the task has no classes, or a loss of its own.
    """
    if not isinstance(objective, Classification | UserObjective):
        raise TaskError(
            "--class-weights needs a task with classes and cross-entropy as its loss; start without it."
        )
    return objective


def weighted(objective: Objective, part: Batches) -> Objective:
    """Return *objective* with the class weights of *part*.

    Raises:
        TaskError: they are not known.
    """
    if part.labels is None:
        raise TaskError("--class-weights needs the classes of the examples, and these data do not tell them.")
    return classification(objective).weighted(part.labels)
