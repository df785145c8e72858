"""Loads an exported model: a module that is ready to use, with its classes and its preprocessing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import msgspec
import numpy as np
import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from p2pfl.errors import TaskError, UserError
from p2pfl.learning.batches import call_model
from p2pfl.learning.catalogue import check_model
from p2pfl.learning.exports.model_info import ModelInfo, read_info, read_schema
from p2pfl.learning.models import MODELS, ImageShape
from p2pfl.learning.own.code import UserCode, load_user_code
from p2pfl.learning.own.prediction import answers_to, read_inputs
from p2pfl.learning.own.task import build_user_model
from p2pfl.learning.pictures.files import PictureError, fit_picture, read_picture
from p2pfl.learning.tables.encoding import encode_file, encode_rows
from p2pfl.learning.tables.models import build_table_model
from p2pfl.learning.task import Scaling, task_of
from p2pfl.learning.training import EVALUATION_BATCH
from p2pfl.learning.weights import state_schema
from p2pfl.paths import shown
from p2pfl.schema import Schema, first_difference
from p2pfl.spec import BuiltinTask, FileTask, PicturesTask, ScriptTask, TableTask


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one input: a class with its probability, or a number."""

    label: str = ""
    """The most probable class; empty where numbers are predicted."""
    probability: float = 0.0
    """Of `label`."""
    probabilities: tuple[float, ...] = ()
    """Of all classes, in the order of the model's `classes`."""
    value: float = 0.0
    """The predicted number, in the units of the target."""
    text: str = ""
    """What `predict(outputs)` of the user's task answers; empty without such a function."""


class LoadedModel(nn.Module):
    """An exported model in evaluation mode. Calling it calls `module`: preprocessed inputs to outputs."""

    def __init__(self, module: nn.Module, info: ModelInfo, code: UserCode | None = None) -> None:
        super().__init__()
        self.code = code
        """The user's task that defines the model; None if there is none, or the model was given."""
        self.module = module
        """The model itself, whose state dict has the names of the file."""
        self.info = info
        """What the file says about the model."""
        self.classes = info.classes
        """Names of the classes in the order of the outputs; empty where numbers are predicted."""
        self.eval()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the outputs of the model for preprocessed *inputs*, such as logits [batch, classes]."""
        return self.module(*inputs, **named)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next((one.device for one in self.module.parameters()), torch.device("cpu"))

    def preprocess(self, inputs: Any) -> Tensor:
        """Return *inputs* as the model takes them, on its device: [batch, ...] float32.

        A tensor is taken to be preprocessed. For a model of pictures, *inputs* is a picture or several:
        paths, PIL pictures, or uint8 arrays [height, width] or [height, width, 3]. For a model of a table it
        is a row or several, each a mapping of column to value; a pandas frame; or the path of a file.

        Raises:
            TaskError: the inputs are of another kind, or one cannot be read.
        """
        if isinstance(inputs, Tensor):
            return inputs.to(self.device)
        if self.info.pictures is not None:
            return self._pictures(inputs).to(self.device)
        if self.info.target is not None:
            return self._rows(inputs).to(self.device)
        raise TaskError(
            "This model is of a task of your own, whose inputs p2pfl does not know: give a tensor, as your "
            "data() makes it, or to predict() a path, with the task file at hand."
        )

    @torch.no_grad()
    def predict(self, inputs: Any) -> list[Prediction]:
        """Return a prediction for each of *inputs*, which are as in `preprocess`.

        For a model of a task file, *inputs* may be a path: the file or folder that `inputs(place)` or
        `data(place)` of the task reads.

        Raises:
            TaskError: the inputs do not fit, the user's code fails, or the outputs are neither classes nor
                numbers.
        """
        if self.code is not None and isinstance(inputs, str | os.PathLike):
            return [
                prediction
                for batch, count in read_inputs(self.code, Path(inputs), self.device)
                for prediction in self._interpret(call_model(self.module, batch), count)
            ]
        batch = self.preprocess(inputs)
        parts = torch.split(batch, EVALUATION_BATCH) if len(batch) else ()
        return [prediction for part in parts for prediction in self._interpret(self(part), len(part))]

    def _interpret(self, outputs: Any, count: int) -> list[Prediction]:
        if self.code is not None and self.code.task.predict is not None:
            return [Prediction(text=text) for text in answers_to(self.code, outputs, count)]
        if isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] == len(self.classes):
            probabilities = outputs.double().softmax(1).tolist()
            best = outputs.argmax(1).tolist()
            pairs = zip(probabilities, best, strict=True)
            return [Prediction(self.classes[place], row[place], tuple(row)) for row, place in pairs]
        if isinstance(outputs, Tensor) and not self.classes and outputs.numel() == len(outputs):
            target = self.info.target
            values = outputs.double().flatten()  # [batch]
            if target is not None:
                values = values * target.deviation + target.mean
            return [Prediction(value=value) for value in values.tolist()]
        raise TaskError(
            "The outputs of this model are neither one number for each class nor one number: define "
            "predict(outputs) in the task, or call the model itself and interpret them as your task does."
        )

    def _pictures(self, inputs: Any) -> Tensor:
        """Return pictures as [batch, channels, height, width]."""
        pictures = self.info.pictures
        assert pictures is not None
        is_one = isinstance(inputs, str | os.PathLike | Image.Image | np.ndarray)
        shape = ImageShape(*pictures.shape)
        pixels = [_pixels(one, shape) for one in ([inputs] if is_one else inputs)]
        scaling = Scaling.normalising(pictures.mean, pictures.deviation)
        if not pixels:
            return torch.empty(0, *shape)
        return scaling(torch.from_numpy(np.stack(pixels)))

    def _rows(self, inputs: Any) -> Tensor:
        """Return rows as [batch, inputs]."""
        agreement = self.info.agreement()
        if isinstance(inputs, str | os.PathLike):
            return encode_file(Path(inputs), agreement, with_target=False).inputs
        if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):  # a pandas frame
            inputs = inputs.to_dict("records")
        if isinstance(inputs, Mapping):
            inputs = [inputs]
        if not isinstance(inputs, Sequence) or not all(isinstance(row, Mapping) for row in inputs):
            raise TaskError(
                "A row of a table is a mapping, such as {'age': 41, 'city': 'Madrid'}; give one, a list of "
                "them, a pandas frame, or the path of a file."
            )
        return encode_rows(inputs, agreement)


def _pixels(picture: Any, shape: ImageShape) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return *picture* as uint8 [channels, height, width] of *shape*."""
    if isinstance(picture, str | os.PathLike):
        try:
            return read_picture(Path(picture), shape)
        except PictureError as error:
            raise TaskError(f"The picture {shown(Path(picture))} cannot be read: {error}.") from error
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise TaskError(
            f"A picture is a path, a PIL picture or an array of bytes, and not {type(picture).__name__}."
        )
    return fit_picture(picture, shape)


def load(
    path: str | os.PathLike[str],
    *,
    task: str | os.PathLike[str] | None = None,
    module: nn.Module | None = None,
) -> LoadedModel:
    """Return the model in the file *path*, which `p2pfl export` wrote, on the CPU and in evaluation mode.

    A model of one's own is defined by code that the file does not have: *task* is the Python file of the
    run's `--task`, or `package.module:object`; *module* is the model itself, for instance of a script.

    Raises:
        UserError: the file is none that `p2pfl export` wrote, is damaged, or does not fit the code.
        TaskError: the code that defines the model is missing or wrong.
    """
    path = Path(path)
    info, schema = read_info(path), read_schema(path)
    code = None
    if module is None and task is not None and isinstance(info.task, FileTask):
        code = load_user_code(os.fspath(task))
    with torch.random.fork_rng(devices=[]):  # a caller's random numbers stay as they are
        built = module if module is not None else _build(info, code)
    difference = first_difference(_without_kinds(state_schema(built)), _without_kinds(schema))
    if difference is not None:
        raise UserError(
            f"The model in {shown(path)} does not fit the code that defines it ({difference}): use the code "
            f"of its run {info.run[:7]}."
        )
    try:
        built.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"The model {shown(path)} is damaged ({error}): export it again.") from error
    return LoadedModel(built, info, code)


def _without_kinds(schema: Schema) -> Schema:
    """Return *schema* without what is a buffer, which files of earlier versions do not say."""
    return tuple(msgspec.structs.replace(spec, is_buffer=False) for spec in schema)


def _build(info: ModelInfo, code: UserCode | None) -> nn.Module:
    """Return a model of the architecture of *info*; its parameters are random."""
    match info.task:
        case BuiltinTask():
            return task_of(check_model(info.task)).build(info.task.model)
        case PicturesTask():
            if info.task.model not in MODELS or info.pictures is None:
                raise TaskError(
                    f"This p2pfl has no model {info.task.model!r} for pictures: upgrade it to load this one."
                )
            return MODELS[info.task.model](ImageShape(*info.pictures.shape), len(info.classes))
        case TableTask():
            return build_table_model(info.task.model, info.agreement())
        case FileTask():
            if code is None:
                raise TaskError(
                    f"This model is defined by the task {info.task.name!r}, and its file has the parameters "
                    f"only: use p2pfl.load(path, task={_file_name(info.task.name)!r}) with the path of the "
                    "task on this device; on the command line, --task."
                )
            return build_user_model(code, info.agreement())
        case ScriptTask():
            raise TaskError(
                f"This model is defined by the script {info.task.name!r}, and its file has the parameters "
                "only: build the model as the script does, and use p2pfl.load(path, module=model)."
            )
        case _:
            assert_never(info.task)


def _file_name(name: str) -> str:
    return name if ":" in name else f"{name}.py"
