"""A task together with this device's data, as the worker uses it.

`open_task` is the only place that maps the kinds of tasks to the code behind them. A `LocalTask` describes
the data of this device. With the agreement of a run it becomes a `PreparedTask`, which builds the model and
gives the examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

import torch
from torch import nn

from p2pfl.cards import Agreement, DataCard
from p2pfl.errors import TaskError
from p2pfl.learning.batches import Batches
from p2pfl.learning.data import DataPlaces, check_share
from p2pfl.learning.objective import Objective
from p2pfl.learning.optimizers import MakeOptimizer
from p2pfl.messages import Evaluation
from p2pfl.spec import (
    BuiltinTask,
    FileTask,
    LocalTraining,
    PicturesTask,
    RunSpec,
    ScriptTask,
    TableTask,
    TaskSpec,
    task_name,
)
from p2pfl.work import TrainingJob

TrainLoop = Callable[[nn.Module, int, LocalTraining, int, int, Callable[[int, int], None]], tuple[int, float]]
"""Trains a model on a partition with options, for the round of a number, with a seed; calls the last argument
after each batch with (batches done, total). Returns the optimizer steps and the mean loss."""

EvaluateLoop = Callable[[nn.Module], Evaluation]
"""Evaluates a model on all held-out examples of this device."""


@dataclass(frozen=True)
class PreparedTask:
    """A task whose model and data have the shapes that the devices of a run agreed on."""

    objective: Objective
    build: Callable[[], nn.Module]
    """Returns a freshly initialised model on the CPU; the caller has seeded torch's default generator."""
    train_part: Callable[[int], Batches]
    """Returns the training examples of a partition, a number from 0; of 0 for private data."""
    test_part: Callable[[int, int], Batches]
    """Returns part *i* of *n* of the held-out examples; all of them for 0 of 1."""
    part_card: Callable[[int], DataCard]
    """Returns the card of a partition of the training examples."""
    own_test_part: Callable[[int, int, int], Batches] | None = None
    """Returns the held-out examples of part *i* of *n* that are like those of a partition of the training
    examples. A model that is particular to a device is judged on them. None: all are like them."""
    train: TrainLoop | None = None
    """A training loop of the user's own; None: that of `p2pfl.learning.training`."""
    evaluate: EvaluateLoop | None = None
    """An evaluation of the user's own."""
    optimizer: Callable[[TrainingJob], MakeOptimizer] | None = None
    """Makes an optimizer of the user's own for a job; None: that of the run's options."""


class LocalTask(Protocol):
    """A task together with this device's data."""

    @property
    def card(self) -> DataCard:
        """What this device tells about its data."""

    @property
    def test_examples(self) -> int:
        """Number of held-out examples on this device."""

    def prepare(self, spec: RunSpec, agreement: Agreement, device: torch.device, /) -> PreparedTask:
        """Return the task with the data encoded as agreed, on *device*.

        Raises:
            TaskError: the model cannot be built.
        """


def open_task(spec: RunSpec, places: DataPlaces) -> LocalTask:
    """Read and describe the data of the task of *spec* on this device.

    Raises:
        TaskError: the data are missing, damaged or of another kind, or the user's file is wrong.
    """
    check_share(spec.task, places.share)
    _check_kind(spec.task, places)
    match spec.task:
        case BuiltinTask():
            from p2pfl.learning.builtin import open_builtin

            return open_builtin(spec, places)
        case PicturesTask():
            from p2pfl.learning.pictures.task import open_pictures

            return open_pictures(spec.task, spec.seed, places)
        case TableTask():
            from p2pfl.learning.tables.task import open_table

            return open_table(spec.task, spec.seed, places)
        case FileTask():
            from p2pfl.learning.own.task import open_file

            return open_file(spec.task, spec.seed, places)
        case ScriptTask():
            raise TaskError(
                f"The run is trained by the script {spec.task.name!r}; start this device with --script."
            )
        case _:
            assert_never(spec.task)


def _check_kind(task: TaskSpec, places: DataPlaces) -> None:
    """Refuse a run whose task would use this device's data in another way than its user has started it for.

    Raises:
        TaskError: it would.
    """
    if isinstance(task, BuiltinTask) or places.task is None:
        return
    kind, name = str(task.__struct_config__.tag), task_name(task)
    if places.task != (kind, name):
        own = describe_choice(*places.task)
        raise TaskError(
            f"The run is for {describe_choice(kind, name)}, and this device was started for {own}: start all "
            "devices for the same task."
        )


def describe_choice(kind: str, name: str) -> str:
    """Return the task of *kind* and *name* for a sentence."""
    return {
        "builtin": f"the task {name!r}",
        "pictures": "own pictures (--data FOLDER)",
        "table": "an own table (--data FILE --target COLUMN)",
        "file": f"the task file {name!r}",
        "script": f"the script {name!r}",
    }[kind]
