"""One local training of a device: its data, the local part of the strategy, and the training loop.

The worker of a node and the clients of a simulation call the same function, so that both make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from p2pfl.errors import TaskError
from p2pfl.learning import training
from p2pfl.learning.batches import Batches
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.objective import Classification, Objective
from p2pfl.learning.optimizers import build_optimizer, scheduled
from p2pfl.learning.own.objective import UserObjective
from p2pfl.learning.slots import Slots
from p2pfl.learning.strategies.local import LocalEnd, LocalStart
from p2pfl.learning.strategies.local_rules import local_rule
from p2pfl.spec import RunSpec, task_name
from p2pfl.strategy_specs import strategy_name, trains_differently
from p2pfl.work import TrainingJob


@dataclass(frozen=True)
class LocalInputs:
    """What a training uses besides its job and the model."""

    state: Callable[[], Slots]
    """Returns the strategy's state; zeros before the first aggregation."""
    memory: Mapping[str, Tensor]
    """What the device remembers of the run, by name; empty at first."""
    part: Batches | None = None
    """Examples in place of those of the job's partition; None: its partition."""


@dataclass(frozen=True)
class LocalResult:
    """A training that has ended. The module has the new parameters."""

    steps: int
    """Optimizer steps."""
    loss: float
    """The loss that the update's entry states."""
    end: LocalEnd
    """What the local part of the strategy gives."""


def train_locally(
    prepared: PreparedTask,
    job: TrainingJob,
    module: nn.Module,
    inputs: LocalInputs,
    after_batch: training.AfterBatch,
) -> LocalResult:
    """Do *job* with *module*, which has the parameters of the job's model, in place.

    Raises:
        TaskError: the training diverged, or the user's own loop failed.
    """
    spec = job.spec
    options = scheduled(spec.training, job.trained, job.rounds)
    seed = training.derive_seed("train", spec.seed, job.round, job.partition)
    if prepared.train is not None:
        steps, loss = prepared.train(module, job.partition, options, job.round, seed, after_batch)
        return LocalResult(steps, loss, LocalEnd())
    part = inputs.part if inputs.part is not None else prepared.train_part(job.partition)
    objective = weighted(prepared.objective, part) if options.class_weights else prepared.objective
    rule = local_rule(LocalStart(spec, module, part, objective, inputs.state, inputs.memory))
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
        )
    except training.DivergedError as error:
        raise TaskError(f"{task_name(spec.task)}: {error}") from error
    if rule is None:
        return LocalResult(steps, loss, LocalEnd())
    end = rule.finish(steps, options.learning_rate)
    return LocalResult(steps, end.loss if end.loss is not None else loss, end)


def check_training(spec: RunSpec, prepared: PreparedTask) -> None:
    """Refuse a run of *spec* whose options its task cannot follow.

    Raises:
        TaskError: it cannot: class weights without classes, or a strategy that changes a loop of the user's.
    """
    if spec.training.class_weights:
        classification(prepared.objective)
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
