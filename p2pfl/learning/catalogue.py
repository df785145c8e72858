"""The tasks there are, with their models and default options.

It stands apart from the tasks themselves because the command line and the node process must know names and
defaults without importing torch. A run's specification comes from whoever founded the run: its task is looked
up here and nowhere else, so that no peer can make this device import a module of its choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfl.errors import TaskError, UserError
from p2pfl.learning import partition
from p2pfl.learning.data import Bundled, DataPlaces, DataSet, DataSource, locate
from p2pfl.messages import RunSpec


class Defaults(msgspec.Struct, frozen=True):
    """The options of a run that a task knows good values for; fields as in `RunSpec`."""

    model: str
    partition: str
    rounds: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float


class TaskEntry(msgspec.Struct, frozen=True):
    """What can be said about a task without loading it."""

    name: str
    summary: str
    """Half a line for `--help` and lists."""
    module: str
    """Where its `TASK` is (see `p2pfl.learning.task`)."""
    models: tuple[str, ...]
    data: DataSource
    defaults: Defaults
    """For the task's default model, and for those that do not differ."""
    other_defaults: tuple[Defaults, ...] = ()
    """For the models that need other values."""

    def defaults_for(self, model: str | None) -> Defaults:
        """Return the defaults for *model*; None is the default model."""
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
)

IMAGE_MODELS = ("2nn", "lenet", "cnn", "resnet18")
"""Those of `p2pfl.learning.models`, the cheapest first."""

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
"""For `2nn`, `lenet` and `cnn`: measured on Fashion-MNIST with four nodes, and taken over for the other data
(see the project's README)."""

RESNET_DEFAULTS = msgspec.structs.replace(SMALL_DEFAULTS, model="resnet18", weight_decay=5e-4)
"""Not measured: the weight decay is what ResNets are usually trained with on CIFAR-10."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The files of MNIST, and of all data sets made to replace it."""

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
)

MNIST = TaskEntry(
    name="mnist",
    summary="70,000 handwritten digits of 28x28 pixels",
    module="p2pfl.learning.tasks.mnist",
    models=IMAGE_MODELS,
    data=DataSet(torchvision="MNIST", folder="MNIST/raw", files=IDX_FILES),
    defaults=SMALL_DEFAULTS,
    other_defaults=(RESNET_DEFAULTS,),
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
    # Two fully connected layers make little of photographs.
    defaults=msgspec.structs.replace(SMALL_DEFAULTS, model="cnn"),
    other_defaults=(RESNET_DEFAULTS,),
)

COMMON_DEFAULTS: Mapping[str, Any] = {
    "partitions": 1,
    "strategy": "fedavg",
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
    """Return the task called *name*.

    Raises:
        TaskError: there is none.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        raise TaskError(f"There is no task {name[:40]!r}; the tasks are: {', '.join(CATALOGUE)}.")
    return entry


def check(spec: RunSpec) -> TaskEntry:
    """Return the task of *spec* if this device could train it, as far as can be told without its data.

    Raises:
        TaskError: the task, its model or the partition is unknown.
    """
    entry = find(spec.task)
    if spec.model not in entry.models:
        raise TaskError(
            f"The task {entry.name!r} has no model {spec.model!r}; its models are: {', '.join(entry.models)}."
        )
    partition.parse(spec.partition)
    return entry


def tasks_with_files() -> tuple[str, ...]:
    """Return the names of the tasks whose data are files that lie in a folder of this device."""
    return tuple(name for name, entry in CATALOGUE.items() if isinstance(entry.data, DataSet))


def find_data(name: str, places: DataPlaces) -> tuple[Path, ...]:
    """Return the files with the data of the task called *name*, unread.

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
    try:
        spec = msgspec.convert({**COMMON_DEFAULTS, **defaults, **given, "task": task}, RunSpec)
    except msgspec.ValidationError as error:
        what, _, field = str(error).partition(" - at `$.")
        option = {"learning_rate": "lr"}.get(field.rstrip("`"), field.rstrip("`")).replace("_", "-")
        raise UserError(f"--{option} is out of range: {what[0].lower()}{what[1:]}.") from error
    check(spec)
    return spec
