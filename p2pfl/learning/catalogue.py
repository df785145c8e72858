"""The tasks there are, with their models and default options.

It stands apart from the tasks themselves because the command line and the node process must know names and
defaults without importing torch. A run's specification comes from whoever founded the run: its task is looked
up here and nowhere else, so that no peer can make this device import a module of its choice.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec

from p2pfl.errors import TaskError
from p2pfl.learning import partition
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
    defaults: Defaults
    package: str
    """The installed package that brings its data."""
    data_file: str
    """Their file, relative to that package's folder."""


DIGITS = TaskEntry(
    name="digits",
    summary="1,797 handwritten digits of 8x8 pixels, part of scikit-learn: no download",
    module="p2pfl.learning.tasks.digits",
    models=("cnn", "2nn"),
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
    package="sklearn",
    data_file="datasets/data/digits.csv.gz",
)

CATALOGUE = {entry.name: entry for entry in (DIGITS,)}
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


def data_path(entry: TaskEntry) -> Path:
    """Find the data of *entry* in the package that brings them, without importing that.

    Raises:
        TaskError: the package or the file in it is missing.
    """
    found = importlib.util.find_spec(entry.package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / entry.data_file
    if path is None or not path.is_file():
        missing = entry.package if path is None else path
        raise TaskError(
            f"The data of the task {entry.name!r} are missing ({missing}): p2pfl was not installed whole. "
            "Install it again, as its README says."
        )
    return path
