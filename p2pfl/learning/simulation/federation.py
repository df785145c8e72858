"""The task of a simulation with its data, divided among the clients."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from p2pfl.agreement import merge_cards
from p2pfl.card_checks import card_flaw
from p2pfl.cards import Agreement
from p2pfl.errors import TaskError, UserError
from p2pfl.learning import partition
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.local_training import check_training
from p2pfl.learning.own.code import UserCode, checked_task
from p2pfl.learning.own.data import read_data
from p2pfl.learning.own.interface import Task
from p2pfl.learning.own.task import FileLocalTask
from p2pfl.learning.pictures.batches import PictureBatches
from p2pfl.learning.simulation.attacks import poisons
from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.learning.tables.task import TableLocalTask
from p2pfl.learning.training import choose_device
from p2pfl.spec import FileTask, is_divided, is_particular

NAME = "simulation"
"""The name of the only device, in the agreement."""


@dataclass(frozen=True)
class SimulatedFederation:
    """A task that is ready to train, with a part of the data for each client."""

    run: SimulatedRun
    """The number of its clients is known."""
    agreement: Agreement
    prepared: PreparedTask
    device: torch.device
    test_examples: int
    """Number of held-out examples."""


def open_federation(run: SimulatedRun, task: Task | None = None) -> SimulatedFederation:
    """Read the data of *run* and divide them. *task* is an object in place of a file.

    Raises:
        TaskError: the data are missing, damaged or too few, or the user's code is wrong.
    """
    local = _open(run, task)
    if flaw := card_flaw(run.spec.task, local.card):
        raise TaskError(f"The data cannot be used: {flaw}.")
    if is_particular(run.spec):
        raise TaskError(
            "A simulation trains one common model, and ditto a second one on each client: use nodes for it."
        )
    agreement, flaw = merge_cards(run.spec.task, {NAME: local.card})
    if agreement is None:
        raise TaskError(f"The data allow no run: {flaw}.")
    device = choose_device(run.device)
    prepared = local.prepare(run.spec, agreement, device)
    check_training(run.spec, prepared)
    if prepared.train is not None and run.attack is not None and poisons(run.attack):
        raise TaskError(
            f"The attack {run.attack.__struct_config__.tag!r} changes training data, and the task has "
            "a training loop of its own, which reads them itself; use another attack, or remove train()."
        )
    if not is_divided(run.spec.task):
        prepared = _divided(run, local, prepared)
    return SimulatedFederation(run, agreement, prepared, device, local.test_examples)


def _open(run: SimulatedRun, task: Task | None) -> LocalTask:
    spec = run.spec
    if task is None:
        return open_task(spec, run.places)
    assert isinstance(spec.task, FileTask)
    source = inspect.getsourcefile(inspect.unwrap(task.model)) if callable(task.model) else None
    file = Path(source or "task.py")
    code = UserCode(checked_task(task, file), file)
    data = read_data(code, run.places.own, run.places.classes, spec.task.holdout, spec.seed)
    return FileLocalTask(spec.task, code, data, run.places)


def _divided(run: SimulatedRun, local: LocalTask, prepared: PreparedTask) -> PreparedTask:
    """Return *prepared*, whose data are those of one device, with a part of them for each client.

    Raises:
        UserError: they cannot be divided.
    """
    whole = prepared.train_part(0)
    labels = whole.labels
    classes = labels.tolist() if labels is not None else [0] * whole.examples
    scheme = partition.parse(run.partition)
    owners = None
    if isinstance(scheme, partition.Natural) and isinstance(local, TableLocalTask):
        owners = local.owners(scheme.column)
    parts = partition.divide(classes, scheme, run.clients, run.spec.seed, owners)
    chosen = [_selected(whole, torch.tensor(part)) for part in parts]
    card = prepared.part_card(0)
    return replace(
        prepared,
        train_part=lambda index: chosen[index],
        part_card=lambda index: msgspec.structs.replace(card, examples=chosen[index].examples),
    )


def _selected(batches: Batches, rows: Tensor) -> Batches:
    """Return the examples of *batches* with the indices *rows* [examples] int64.

    Raises:
        UserError: they are not in memory.
    """
    match batches:
        case TensorBatches():
            return replace(batches, rows=batches.rows[rows.to(batches.rows.device)])
        case PictureBatches():
            return replace(batches, pictures=_selected(batches.pictures, rows))
        case _:
            raise UserError(
                "The pictures do not fit into the memory of this machine, so they cannot be divided among "
                "clients; use a smaller image_size, or fewer pictures."
            )
