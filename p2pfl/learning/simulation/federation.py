"""The task of a simulation with its data, divided among the clients."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from p2pfl.agreement import agree
from p2pfl.card_checks import card_flaw
from p2pfl.cards import Agreement
from p2pfl.errors import TaskError, UserError
from p2pfl.learning import partition
from p2pfl.learning.adapters import add_adapters
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.local_model import LocalModel
from p2pfl.learning.local_task import LocalTask, PreparedTask, open_task
from p2pfl.learning.local_training import check_training
from p2pfl.learning.own.code import UserCode, checked_task
from p2pfl.learning.own.data import read_data
from p2pfl.learning.own.interface import Task
from p2pfl.learning.own.task import FileLocalTask
from p2pfl.learning.pictures.batches import PictureBatches
from p2pfl.learning.simulation.attack_specs import BACKDOOR, Backdoor
from p2pfl.learning.simulation.attacks import check_attack, poisons
from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.learning.simulation.stacked import stacking_flaw
from p2pfl.learning.tables.task import TableLocalTask
from p2pfl.learning.training import choose_device
from p2pfl.spec import FileTask, evaluation_parts, is_divided, is_particular
from p2pfl.work import EvaluationJob

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
    task: Task | None = None
    """The task if it is an object in place of a file."""

    def build_model(self) -> LocalModel:
        """Return the initial model on the CPU, which the seed of the run determines.

        Raises:
            TaskError: the model cannot be built, or a pattern of names matches nothing.
        """
        spec = self.run.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            module = self.prepared.build()
            if spec.lora is not None:
                module = add_adapters(module, spec.lora)
        return LocalModel(module, spec.personalisation.personal)

    def evaluation_of(self, client: int, round_: int) -> EvaluationJob:
        """Return the job of *client* to judge the model of *round_*, as a node's is."""
        spec = self.run.spec
        parts = evaluation_parts(spec.task, self.run.clients)
        return EvaluationJob("", round_, spec, self.agreement, "", client % parts, parts, partition=client)


def open_federation(run: SimulatedRun, task: Task | None = None) -> SimulatedFederation:
    """Read the data of *run* and divide them. *task* is an object in place of a file.

    Raises:
        TaskError: the data are missing, damaged or too few, or the user's code is wrong.
    """
    local = _open(run, task)
    if flaw := card_flaw(run.spec.task, local.card):
        raise TaskError(f"The data cannot be used: {flaw}.")
    agreement, flaw = agree(run.spec, {NAME: local.card})
    if agreement is None:
        raise TaskError(f"The data allow no run: {flaw}.")
    device = choose_device(run.device)
    prepared = local.prepare(run.spec, agreement, device)
    check_training(run.spec, prepared)
    if is_particular(run.spec) and evaluation_parts(run.spec.task, run.clients) > local.test_examples:
        raise UserError(
            f"There are {local.test_examples} held-out examples, too few for {run.clients} clients that each "
            "judge a model of their own; use fewer clients."
        )
    if prepared.train is not None and run.attack is not None and poisons(run.attack):
        raise TaskError(
            f"The attack {run.attack.__struct_config__.tag!r} changes training data, and the task has "
            "a training loop of its own, which reads them itself; use another attack, or remove train()."
        )
    _check_target(run, agreement)
    try:
        if not is_divided(run.spec.task):
            prepared = _divided(run, local, prepared)
        some = prepared.train_part(0)  # divides common data
    except partition.DivisionError as error:
        raise TaskError(f"With {run.clients} clients and partition={run.partition!r}: {error}") from error
    if run.attack is not None:
        check_attack(run.attack, agreement, some)
    federation = SimulatedFederation(run, agreement, prepared, device, local.test_examples, task)
    if run.vectorised and (flaw := _vectorised_flaw(federation)):
        raise TaskError(f"vectorised cannot be used here: {flaw}; leave it out.")
    return federation


def _check_target(run: SimulatedRun, agreement: Agreement) -> None:
    """Refuse to end a run at a metric that is not measured.

    Raises:
        UserError: it is not.
    """
    target = run.spec.stopping.until
    if target is None or target.metric in agreement.metric_names:
        return
    if target.metric == BACKDOOR and isinstance(run.attack, Backdoor):
        return
    raise UserError(
        f"until is {target.metric}={target.value:g}, and {', '.join(agreement.metric_names)} are measured; "
        "name one of these."
    )


def _vectorised_flaw(federation: SimulatedFederation) -> str:
    """Return why the task of *federation* does not allow to train clients at once; empty if it does."""
    prepared = federation.prepared
    if prepared.train is not None:
        return "the task has a training loop of its own"
    if prepared.optimizer is not None:
        return "the task has an optimizer of its own"
    if not isinstance(prepared.train_part(0), TensorBatches):
        return "the examples are not tensors in memory"
    return stacking_flaw(federation.build_model().module)


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

    def own_test_part(part: int, count: int, index: int) -> Batches:
        held_out, own = prepared.test_part(part, count), chosen[index].labels
        if held_out.labels is None or own is None:
            return held_out
        rows = torch.isin(held_out.labels, own).nonzero().flatten()
        return _selected(held_out, rows) if len(rows) else held_out

    card = prepared.part_card(0)
    return replace(
        prepared,
        train_part=lambda index: chosen[index],
        part_card=lambda index: msgspec.structs.replace(card, examples=chosen[index].examples),
        own_test_part=own_test_part,
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
