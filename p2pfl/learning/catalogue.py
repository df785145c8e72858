"""The list of tasks, with their models, data and default options.

It is separate from the tasks because the command line and the node process need names and defaults without
importing torch. The specification of a run comes from another node, its founder. Its task is looked up only
here, so no peer can make this device import a module of the peer's choice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfl.errors import TaskError, UserError
from p2pfl.learning import partition
from p2pfl.learning.data import Bundled, DataPlaces, DataSet, DataSource, locate
from p2pfl.learning.pictures.inputs import PictureInputs
from p2pfl.spec import BuiltinTask, RunSpec, from_options, personal_flaw
from p2pfl.strategy_specs import least_updates, strategy_name


class Defaults(msgspec.Struct, frozen=True):
    """Default options of a run for one model of a task; fields as in `RunSpec`."""

    model: str
    partition: str
    rounds: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float


class TaskEntry(msgspec.Struct, frozen=True):
    """Description of a task, known without importing its module."""

    name: str
    summary: str
    """Half a line for `--help` and lists of tasks."""
    module: str
    """Module that defines the task as `TASK` (see `p2pfl.learning.task`)."""
    models: tuple[str, ...]
    """Names of its models, the values of `--model`."""
    data: DataSource
    defaults: Defaults
    """For the default model, and for all models without an entry in `other_defaults`."""
    other_defaults: tuple[Defaults, ...] = ()
    """For models that need other values."""
    inputs: PictureInputs | None = None
    """Shape and scaling of its pictures, as the models take them; None: the inputs are no pictures."""

    def defaults_for(self, model: str | None) -> Defaults:
        """Return the default options for *model*; None is the default model."""
        for defaults in self.other_defaults:
            if defaults.model == model:
                return defaults
        return msgspec.structs.replace(self.defaults, model=model or self.defaults.model)


DIGITS = TaskEntry(
    name="digits",
    summary="1,797 handwritten digits of 8x8 pixels, part of scikit-learn: no download",
    module="p2pfl.learning.tasks.digits",
    models=("cnn", "2nn"),
    data=Bundled(package="sklearn", file="datasets/data/digits.csv.gz"),
    defaults=Defaults(
        model="cnn",
        partition="dirichlet:0.5",
        rounds=10,
        epochs=2,
        batch_size=16,
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=0.0,
    ),
    inputs=PictureInputs((1, 8, 8), (0.0,), (1.0,)),
)

IMAGE_MODELS = ("2nn", "lenet", "cnn", "resnet18")
"""The models of `p2pfl.learning.models`, in order of cost."""

SMALL_DEFAULTS = Defaults(
    model="2nn",
    partition="dirichlet:0.5",
    rounds=10,
    epochs=1,
    batch_size=64,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
)
"""For `2nn`, `lenet` and `cnn` on all image data; measured on Fashion-MNIST with four nodes (the figures are
in `p2pfl/learning/README.md`)."""

RESNET_DEFAULTS = msgspec.structs.replace(SMALL_DEFAULTS, model="resnet18", weight_decay=5e-4)
"""Not measured: this weight decay is usual for ResNets on CIFAR-10."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""File names of MNIST and of the data sets in its format."""

FASHION_MNIST = TaskEntry(
    name="fashion-mnist",
    summary="70,000 grey pictures of clothes of 28x28 pixels, by Zalando",
    module="p2pfl.learning.tasks.fashion_mnist",
    models=IMAGE_MODELS,
    data=DataSet(
        torchvision="FashionMNIST",
        folder="FashionMNIST/raw",
        files=IDX_FILES,
        system_folder="/usr/share/datasets/fashion-mnist",
        system_package="dataset-fashion-mnist",
    ),
    defaults=SMALL_DEFAULTS,
    other_defaults=(RESNET_DEFAULTS,),
    inputs=PictureInputs((1, 28, 28), (0.2860,), (0.3530,)),
)

MNIST = TaskEntry(
    name="mnist",
    summary="70,000 handwritten digits of 28x28 pixels",
    module="p2pfl.learning.tasks.mnist",
    models=IMAGE_MODELS,
    data=DataSet(torchvision="MNIST", folder="MNIST/raw", files=IDX_FILES),
    defaults=SMALL_DEFAULTS,
    other_defaults=(RESNET_DEFAULTS,),
    inputs=PictureInputs((1, 28, 28), (0.1307,), (0.3081,)),
)

CIFAR10 = TaskEntry(
    name="cifar10",
    summary="60,000 colour pictures of animals and vehicles of 32x32 pixels",
    module="p2pfl.learning.tasks.cifar10",
    models=IMAGE_MODELS,
    data=DataSet(
        torchvision="CIFAR10",
        folder="cifar-10-batches-py",
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        is_flat=False,
    ),
    # Two fully connected layers learn little from photographs.
    defaults=msgspec.structs.replace(SMALL_DEFAULTS, model="cnn"),
    other_defaults=(RESNET_DEFAULTS,),
    inputs=PictureInputs((3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
)
"""Mean and deviation are those of the training pixels of each data set."""

COMMON_DEFAULTS: Mapping[str, Any] = {
    "partitions": 1,
    "seed": 1,
    "sample": 0,
    "min_updates": 1,
    "round_cap": 900.0,
    "drop_after": 60.0,
}
"""Options of a run that are the same for every task.

A member's own prediction keeps it in a round long before `round_cap`, which bounds a stuck one; `drop_after`
is long enough for a reboot or a walk to another access point."""

CATALOGUE = {entry.name: entry for entry in (DIGITS, FASHION_MNIST, MNIST, CIFAR10)}
"""The built-in tasks by name."""


def find(name: str) -> TaskEntry:
    """Return the entry of the task *name*.

    Raises:
        TaskError: there is no such task.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, CATALOGUE, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the tasks are: {', '.join(CATALOGUE)}."
        raise TaskError(f"There is no task {name[:40]!r}; {hint}")
    return entry


def check(spec: RunSpec) -> TaskEntry:
    """Return the entry of the task of *spec*, after checking its model and partition. Data are not checked.

    Raises:
        TaskError: the task, its model or the partition is unknown.
    """
    assert isinstance(spec.task, BuiltinTask)
    entry = check_model(spec.task)
    if isinstance(partition.parse(spec.task.partition), partition.Natural):
        raise TaskError(
            f"--partition {spec.task.partition[:40]} divides examples by their owners, and those of "
            f"{entry.name} have no owners; use another partition."
        )
    return entry


def check_model(task: BuiltinTask) -> TaskEntry:
    """Return the entry of *task*, after checking its model.

    Raises:
        TaskError: the task or its model is unknown.
    """
    entry = find(task.name)
    if task.model not in entry.models:
        raise TaskError(
            f"The task {entry.name!r} has no model {task.model!r}; its models are: {', '.join(entry.models)}."
        )
    return entry


def tasks_with_files() -> tuple[str, ...]:
    """Return the names of the tasks whose data are files in a folder of this device."""
    return tuple(name for name, entry in CATALOGUE.items() if isinstance(entry.data, DataSet))


def find_data(name: str, places: DataPlaces) -> tuple[Path, ...]:
    """Return the paths of the data files of the task *name*, without reading them.

    Raises:
        TaskError: there is no such task, or a file is missing; the message says how to get it.
    """
    entry = find(name)
    return locate(entry.name, entry.data, places)


def make_spec(task: str, given: Mapping[str, Any]) -> RunSpec:
    """Return a run's spec: the defaults of task and model, replaced by what the operator has *given*.

    Raises:
        UserError: a value out of its range; the message names the option.
        TaskError: the task, its model or the partition is unknown.
    """
    defaults = msgspec.to_builtins(find(task).defaults_for(given.get("model")))
    spec = checked(lambda: from_options(**{**COMMON_DEFAULTS, **defaults, **given, "task": task}))
    check(spec)
    return spec


def checked(make: Callable[[], RunSpec]) -> RunSpec:
    """Return the spec that *make* returns.

    Raises:
        UserError: an option is unknown to the kind of task, out of its range, or contradicts another one; the
            message names it.
    """
    try:
        spec = make()
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        if unknown := re.search("unknown field `(.*)`", what):
            raise UserError(f"--{option_of(unknown[1])} is of no use for this task; leave it out.") from error
        field = path.rstrip("`").rpartition(".")[2]
        raise UserError(f"--{option_of(field)} is out of range: {what[0].lower()}{what[1:]}.") from error
    if flaw := personal_flaw(spec):
        raise UserError(f"{flaw}.")
    _check_sampling(spec)
    return spec


def _check_sampling(spec: RunSpec) -> None:
    """Refuse a sample of members with which no round could train as asked.

    Raises:
        UserError: it is one.
    """
    participation, least = spec.participation, least_updates(spec.strategy)
    sample, fraction = participation.sample, participation.fraction
    if sample and fraction:
        raise UserError(
            "--sample and --fraction cannot be used together: give a number of members or a fraction of them."
        )
    if participation.sample_by != "uniform" and not (sample or fraction):
        raise UserError(
            f"--sample-by {participation.sample_by} has no effect when all members train: give --sample or "
            "--fraction with it."
        )
    if 0 < sample < least:
        raise UserError(
            f"--sample is {sample}, and the strategy {strategy_name(spec.strategy)} needs at least {least} "
            f"updates in a round: give --sample {least} or more."
        )


def option_of(field: str) -> str:
    """Return the name of the command-line option for *field* of a spec."""
    return {"learning_rate": "lr", "name": "task", "metric": "until"}.get(field, field).replace("_", "-")
