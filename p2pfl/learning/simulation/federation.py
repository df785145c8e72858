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
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.local_training import classification
from p2pfl.learning.own.code import UserCode, checked_task
from p2pfl.learning.own.data import read_data
from p2pfl.learning.own.interface import Task
from p2pfl.learning.own.task import FileLocalTask
from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.learning.training import choose_device
from p2pfl.spec import FileTask, is_divided

NAME = "simulation"
"""The name of the only device, in the agreement."""


@dataclass(frozen=True)
class Federation:
    """A task that is ready to train, with a part of the data for each client."""

    run: SimulatedRun
    """The number of its clients is known."""
    agreement: Agreement
    prepared: PreparedTask
    device: torch.device
    test_examples: int
    """Number of held-out examples."""


def open_federation(run: SimulatedRun, task: Task | None = None) -> Federation:
    """Read the data of *run* and divide them. *task* is an object in place of a file.

    Raises:
        TaskError: the data are missing, damaged or too few, or the user's code is wrong.
    """
    local = _open(run, task)
    if flaw := card_flaw(run.spec.task, local.card):
        raise TaskError(f"The data cannot be used: {flaw}.")
    agreement, flaw = merge_cards(run.spec.task, {NAME: local.card})
    if agreement is None:
        raise TaskError(f"The data allow no run: {flaw}.")
    device = choose_device(run.device)
    prepared = local.prepare(run.spec, agreement, device)
    if run.spec.training.class_weights:
        classification(prepared.objective)
    if not is_divided(run.spec.task):
        prepared = _divided(run, prepared)
    return Federation(run, agreement, prepared, device, local.test_examples)


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


def _divided(run: SimulatedRun, prepared: PreparedTask) -> PreparedTask:
    """Return *prepared*, whose data are those of one device, with a part of them for each client."""
    whole = prepared.train_part(0)
    if not isinstance(whole, TensorBatches) or prepared.train is not None:
        raise UserError(
            "These data cannot be divided among the clients of a simulation: they do not fit into memory, or "
            "their task has a training loop of its own. Give the partition to a task file."
        )
    labels = whole.labels
    classes = labels.tolist() if labels is not None else [0] * whole.examples
    scheme = partition.parse(run.partition)
    parts = partition.divide(classes, scheme, run.clients, run.spec.seed)
    rows = [whole.rows[torch.tensor(part, device=whole.rows.device)] for part in parts]
    card = prepared.part_card(0)
    return replace(
        prepared,
        train_part=lambda index: replace(whole, rows=rows[index]),
        part_card=lambda index: msgspec.structs.replace(card, examples=len(rows[index])),
    )
