"""Evaluates an exported model on data of any kind that its task can have, and counts its confusions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import msgspec
import torch
from torch import Tensor

from p2pfl.cards import Agreement, Measures
from p2pfl.errors import TaskError
from p2pfl.learning import catalogue
from p2pfl.learning.batches import Batches, TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.exports.exported import LoadedModel
from p2pfl.learning.exports.judging import EvaluateModel, Judged
from p2pfl.learning.loader import LoaderBatches
from p2pfl.learning.local_task import EvaluateLoop
from p2pfl.learning.models import ImageShape
from p2pfl.learning.objective import Classification, Judge, Objective, Regression
from p2pfl.learning.own.task import open_file
from p2pfl.learning.pictures.batches import PictureBatches, PictureDataset, fit_in_memory
from p2pfl.learning.pictures.folders import scan_folder
from p2pfl.learning.pictures.inputs import PictureInputs
from p2pfl.learning.tables.encoding import encode_file
from p2pfl.learning.task import Scaling, task_of
from p2pfl.learning.training import evaluate
from p2pfl.paths import full, holds_folder, shown
from p2pfl.spec import BuiltinTask, FileTask, PicturesTask, ScriptTask, TableTask

MAX_CONFUSED_CLASSES = 200
"""Confusions of more classes are not counted: nobody reads a larger matrix."""


@dataclass(frozen=True)
class Examples:
    """What a model is evaluated on."""

    words: str
    """For people."""
    batches: Batches
    objective: Objective
    evaluate: EvaluateLoop | None = None
    """An evaluation of the user's own in place of batches and objective."""


def judge(model: LoadedModel, request: EvaluateModel) -> Judged:
    """Evaluate *model*, which is on its device, as *request* says.

    Raises:
        TaskError: there are no such data, or they do not fit the model.
    """
    examples = _examples(model, request)
    if examples.evaluate is not None:
        return Judged(examples.words, examples.evaluate(model.module))
    counting = CountingObjective(examples.objective, len(model.classes))
    evaluation = evaluate(model.module, examples.batches, counting)
    return Judged(examples.words, evaluation, counting.confusion())


class CountingObjective:
    """A judge that also counts which class was taken for which."""

    def __init__(self, objective: Judge, classes: int) -> None:
        self._objective = objective
        self._classes = classes
        self._matrix = torch.zeros(classes, classes, dtype=torch.int64)

    @property
    def measures(self) -> Measures:
        """Those of the objective."""
        return self._objective.measures

    def sums(self, outputs: Tensor, targets: Tensor, /) -> dict[str, float]:
        """Return those of the objective."""
        return self._objective.sums(outputs, targets)

    def counts(self, outputs: Tensor, targets: Tensor, /) -> Tensor | None:
        """Return those of the objective; count the confusions where the outputs are classes."""
        count = self._classes
        is_counted = 0 < count <= MAX_CONFUSED_CLASSES and isinstance(outputs, Tensor)
        if is_counted and targets.ndim == 1 and outputs.shape == (len(targets), count):
            pairs = targets.cpu() * count + outputs.argmax(1).cpu()
            self._matrix += torch.bincount(pairs, minlength=count * count).view(count, count)
        return self._objective.counts(outputs, targets)

    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Return the number of examples by true class and predicted class; empty if none was counted."""
        return tuple(map(tuple, self._matrix.tolist())) if self._matrix.any() else ()


def _examples(model: LoadedModel, request: EvaluateModel) -> Examples:
    info, agreement = model.info, model.info.agreement()
    data = Path(request.data) if request.data else None
    match info.task:
        case BuiltinTask() if data is None:
            return _test_split(info.task, agreement, request, model.device)
        case BuiltinTask() | PicturesTask():
            if info.pictures is None or data is None or not holds_folder(data):
                given = f", and {shown(data)} is none" if data is not None else ""
                raise TaskError(
                    "This model classifies pictures: name a folder that has one folder for each class with "
                    f"--data{given}."
                )
            return _pictures(data, info.pictures, agreement, model.device)
        case TableTask():
            if data is None:
                raise TaskError("This model predicts a column of a table: name a file with --data.")
            return _table(data, agreement, request.target, model.device)
        case FileTask():
            return _own(info.task, model, request)
        case ScriptTask():
            raise TaskError(
                f"This model is evaluated by the script {info.task.name!r} only: use its function with "
                "p2pfl.load(path, module=model)."
            )
        case _:
            assert_never(info.task)


def _test_split(
    task: BuiltinTask, agreement: Agreement, request: EvaluateModel, device: torch.device
) -> Examples:
    places = DataPlaces(root=Path(request.data_root) if request.data_root else None)
    data = task_of(catalogue.check_model(task)).load(places).to(device)
    rows = torch.arange(len(data.test_y), device=device)
    batches = TensorBatches(data.test_x, data.test_y, rows, data.scaling)
    return Examples(f"the test split of {task.name}", batches, Classification(agreement))


def _pictures(root: Path, inputs: PictureInputs, agreement: Agreement, device: torch.device) -> Examples:
    folder = scan_folder(root)
    for note in folder.notes:
        sys.stderr.write(f"{note}\n")
    pictures = folder.test or folder.train
    numbers = {label: number for number, label in enumerate(agreement.classes)}
    if unknown := sorted({picture.label for picture in pictures} - set(numbers)):
        raise TaskError(
            f"The folder {shown(root)} has pictures of {', '.join(map(repr, unknown[:5]))}, a class that "
            "this model does not know; move the folder away, or rename it to one of its classes."
        )
    paths = [picture.path for picture in pictures]
    shape = ImageShape(*inputs.shape)
    dataset = PictureDataset(root, paths, [numbers[picture.label] for picture in pictures], shape)
    batches: Batches
    if fit_in_memory(len(dataset), shape, device):
        rows = torch.arange(len(dataset), device=device)
        batches = TensorBatches(dataset.read_all().to(device), dataset.targets.to(device), rows)
    else:
        batches = LoaderBatches(dataset, device, labels=dataset.targets)
    scaling = Scaling.normalising(inputs.mean, inputs.deviation).to(device)
    words = f"the pictures to test on in {shown(root)}" if folder.test else f"the pictures in {shown(root)}"
    return Examples(words, PictureBatches(batches, scaling), Classification(agreement))


def _table(path: Path, agreement: Agreement, target: str, device: torch.device) -> Examples:
    column = agreement.target
    assert column is not None
    if target:
        column = msgspec.structs.replace(column, name=target)
        agreement = msgspec.structs.replace(agreement, target=column)
    rows = encode_file(path, agreement, with_target=True)
    assert rows.targets is not None
    numbers = torch.arange(len(rows.inputs), device=device)
    batches = TensorBatches(rows.inputs.to(device), rows.targets.to(device), numbers)
    is_number = column.kind == "number"
    objective = Regression(column.deviation) if is_number else Classification(agreement)
    return Examples(f"the rows of {shown(path)}", batches, objective)


def _own(task: FileTask, model: LoadedModel, request: EvaluateModel) -> Examples:
    """Return what the user's data() holds out."""
    spec, agreement = model.info.spec, model.info.agreement()
    own = full(Path(request.data)) if request.data else None
    places = DataPlaces(code=request.code, own=own, classes=agreement.classes)
    prepared = open_file(task, spec.seed, places).prepare(spec, agreement, model.device)
    words = f"what {shown(Path(request.code).name)} holds out"
    return Examples(words, prepared.test_part(0, 1), prepared.objective, prepared.evaluate)
