"""What a device trains, from its command line: a built-in task, its own data, a file, or a script.

It imports no torch: it only looks at names and paths. The data are read by the worker.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfl.errors import UserError
from p2pfl.learning import catalogue, partition
from p2pfl.learning.data import DataPlaces
from p2pfl.paths import full, holds_file, holds_folder, is_there, obstacle, shown
from p2pfl.spec import RunSpec, from_options
from p2pfl.strategy_specs import strategy_name, trains_differently

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""Ends of the names of files that are read as tables."""

TRAINING: Mapping[str, Any] = {
    "rounds": 10,
    "epochs": 1,
    "batch_size": 32,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
}
"""Defaults of tasks with private data; those of one kind follow."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "pictures": {"model": "lenet", "rounds": 20, "epochs": 2},
    "table": {
        "model": "mlp",
        "rounds": 10,
        "epochs": 2,
        "batch_size": 16,
        "weight_decay": 0.01,
    },  # measured: `p2pfl/learning/README.md`
    "file": {"rounds": 20, "epochs": 2},
    "script": {},
}
"""Defaults by kind of task."""


SCRIPT_OPTIONS = frozenset(
    {
        "rounds",
        "seed",
        "sample",
        "fraction",
        "sample_by",
        "min_updates",
        "round_cap",
        "drop_after",
        "share",
        "until",
        "patience",
        "personal",
        "strategy",
        "strategy_arg",
    }
)
"""Options of a run that have a meaning for scripts: their own loops decide about the training."""

LISTENING = Path("-")
"""In place of a script: another program connects and trains (`p2pfl.node`)."""

LISTENING_TASK = "script"
"""Name of its task without `--task`."""


class Choice(msgspec.Struct, frozen=True):
    """The task that the options of a command line name."""

    kind: str
    """The tag of the task in `p2pfl.spec`."""
    name: str
    """Name of a built-in task, a file or a script; empty for pictures and tables."""
    places: DataPlaces
    """Where the data and the code are on this device."""


def choose(task: str | None, script: Path | None, places: DataPlaces) -> Choice:
    """Return the task that `--task`, `--script` and `--data` (in *places*) name.

    Raises:
        UserError: they contradict each other, or a path leads nowhere.
    """
    data = places.own
    if script is not None:
        if script == LISTENING:
            return Choice("script", task or LISTENING_TASK, places)
        if task is not None:
            raise UserError("--script and --task cannot be used together: a script is a task of its own.")
        _check_file(script, "--script")
        return Choice("script", script.stem, msgspec.structs.replace(places, code=str(full(script))))
    if task is not None and _is_code(task):
        code = task
        if task.endswith(".py"):
            _check_file(Path(task), "--task")
            if _is_script(Path(task)):
                return choose(None, Path(task), places)
            code = str(full(Path(task)))
        if data is not None:
            _check_there(data)
        name = Path(task).stem if task.endswith(".py") else task
        return Choice("file", name, msgspec.structs.replace(places, code=code))
    if data is None:
        return Choice("builtin", task or "digits", places)
    if task is not None:
        raise UserError(
            f"The task {task!r} has data of its own. Leave --data out, or leave --task out: then the data "
            "themselves are the task."
        )
    return Choice(_kind_of(data), "", places)


def make_spec(choice: Choice, given: Mapping[str, Any]) -> RunSpec:
    """Return a run's spec: the defaults of the task of *choice*, replaced by what the operator has *given*.

    Raises:
        UserError: an option is missing, out of range, or of no use for this kind of task.
    """
    if choice.kind == "builtin":
        return catalogue.make_spec(choice.name, given)
    if choice.kind == "script" and (strange := sorted(given.keys() - SCRIPT_OPTIONS - {"task"})):
        option = catalogue.option_of(strange[0])
        raise UserError(f"--{option} has no effect with --script: the script's own loop decides about it.")
    name = {"task": choice.name} if choice.name else {}
    options = {**catalogue.COMMON_DEFAULTS, **TRAINING, **DEFAULTS[choice.kind], **given, **name}
    if choice.kind == "file" and options.get("partition"):
        partition.parse(options["partition"])
    else:
        options.pop("partitions", None)
    if choice.kind not in ("file", "script"):
        options.pop("task", None)
    if choice.kind == "table" and "target" not in given:
        raise UserError(
            f"Which column of {shown(choice.places.own or Path())} is to be predicted? Name it with --target."
        )
    spec = catalogue.checked(lambda: from_options(kind=choice.kind, **options))
    if choice.kind == "script" and trains_differently(spec.strategy):
        raise UserError(
            f"The strategy {strategy_name(spec.strategy)} changes local training, which the script's own "
            "loop does: use another strategy, or a task file without train()."
        )
    return spec


def _is_code(task: str) -> bool:
    return task.endswith(".py") or ":" in task


def _is_script(file: Path) -> bool:
    """Return whether the program *file* trains in a loop of its own: it calls `p2pfl.rounds`.

    The file is not run. One that cannot be read or parsed counts as a task file, whose reader says why.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    names = {"p2pfl.rounds"} | ({"rounds"} if _imports_rounds(tree) else set())
    return any(isinstance(node, ast.Call) and ast.unparse(node.func) in names for node in ast.walk(tree))


def _imports_rounds(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "p2pfl"
        and any(alias.name == "rounds" for alias in node.names)
        for node in ast.walk(tree)
    )


def _check_file(path: Path, option: str) -> None:
    if not holds_file(path):
        why = obstacle(path) or ("it is a folder" if holds_folder(path) else "there is no such file")
        raise UserError(f"{option} is {shown(path)}, which cannot be used: {why}.")


def _check_there(data: Path) -> None:
    if not is_there(data):
        why = obstacle(data) or "there is nothing at this path"
        raise UserError(f"--data is {shown(data)}, which cannot be used: {why}.")


def _kind_of(data: Path) -> str:
    """Return the kind of the task that the data at *data* make.

    Raises:
        UserError: they are nothing that can be trained on without code.
    """
    _check_there(data)
    if holds_folder(data):
        return "pictures"
    if data.name.lower().endswith(TABLE_SUFFIXES):
        return "table"
    raise UserError(
        f"--data is {shown(data)}: neither a folder of pictures nor a table ({', '.join(TABLE_SUFFIXES)}). "
        "Other data need a task file: `p2pfl task new FILE` writes one."
    )
