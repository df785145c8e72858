"""What an exported model says about itself: in the metadata of its safetensors file.

`p2pfl export` writes it, without torch. Everything that uses an exported model (`p2pfl.load`, `p2pfl
evaluate`, `p2pfl predict`) needs this file only. Metadata values of safetensors are text: the key "p2pfl" has
everything as JSON, and a few plain keys are for people and other programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

import msgspec

from p2pfl.cards import AgreedColumn, Agreement, Measures
from p2pfl.errors import BlobError, UserError
from p2pfl.events import RoundRow
from p2pfl.learning.catalogue import CATALOGUE
from p2pfl.learning.pictures.inputs import PictureInputs, own_pictures
from p2pfl.messages import Genesis
from p2pfl.paths import shown
from p2pfl.schema import Schema, TensorSpec, canonical
from p2pfl.spec import (
    BuiltinTask,
    FileTask,
    PicturesTask,
    RunSpec,
    ScriptTask,
    TableTask,
    TaskSpec,
    model_name,
    unknown_tag,
)
from p2pfl.strategy_specs import describe_strategy
from p2pfl.text import one_line

KEY = "p2pfl"
"""The key of the metadata that has the whole information."""

OWN = "own"
"""Architecture of a model of the user's own."""

MAX_HEADER_BYTES = 100_000_000
"""Limit of the safetensors library."""


class ColumnInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of a table as the model takes it; fields as in `p2pfl.cards.AgreedColumn`, but by name."""

    name: str
    kind: str
    is_gappy: bool
    mean: float
    deviation: float
    categories: tuple[str, ...]

    @classmethod
    def of(cls, column: AgreedColumn) -> ColumnInfo:
        """Return the description of *column*."""
        return cls(**msgspec.structs.asdict(column))

    def agreed(self) -> AgreedColumn:
        """Return the column.

        Raises:
            msgspec.ValidationError: a value is out of bounds.
        """
        return msgspec.convert(list(msgspec.structs.asdict(self).values()), AgreedColumn)


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model comes from, what it takes, and what its outputs mean."""

    version: str
    """Of the p2pfl that exported the model."""
    run: str
    round: int
    """Number of training rounds that led to the model."""
    record: str
    """Digest of the record that committed the model; empty for a model of a simulation."""
    digest: str
    """BLAKE3 of the model's file in the run, which has the same tensors and no metadata."""
    spec: RunSpec
    """The specification of the run: its task, and how the model was trained."""
    architecture: str
    """Name of the built-in model, or "own"."""
    classes: tuple[str, ...]
    """In the order of the model's outputs; empty where it predicts no classes."""
    measures: Measures
    metrics: dict[str, float]
    """Mean of each metric over all held-out examples of the run; empty if nobody has evaluated the model."""
    examples: int
    """Number of these held-out examples."""
    train_examples: int
    """Maximum number of training examples that a device may state (`p2pfl.cards.Agreement`)."""
    input_shape: tuple[int, ...] = ()
    """Shape of an input without the batch; empty if the run did not agree on one."""
    pictures: PictureInputs | None = None
    """Shape and scaling of pictures; None: the inputs are none, or the user's own code makes them."""
    columns: tuple[ColumnInfo, ...] = ()
    """The columns of a table in the order of the model's inputs, without the target."""
    target: ColumnInfo | None = None
    """The target of a table. A predicted number is output * deviation + mean."""
    is_personal: bool = False
    """Whether it is the personal model of one device, and not the common one of the round."""

    @property
    def task(self) -> TaskSpec:
        """The task of the run."""
        return self.spec.task

    @property
    def reads_files(self) -> bool:
        """Whether p2pfl can make the model's inputs from files: pictures, or rows of tables."""
        return self.pictures is not None or self.target is not None

    def agreement(self) -> Agreement:
        """Return what the devices of the run had agreed on, as far as it determines the model.

        Raises:
            msgspec.ValidationError: a value is out of bounds.
        """
        agreement = Agreement(
            self.classes,
            self.train_examples,
            self.measures,
            input_shape=self.input_shape,
            columns=tuple(column.agreed() for column in self.columns),
            target=self.target.agreed() if self.target is not None else None,
        )
        return msgspec.convert(msgspec.to_builtins(agreement), Agreement)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the model's file."""
        return {
            KEY: msgspec.json.encode(self).decode(),
            "format": "pt",
            "p2pfl_version": self.version,
            "task": task_label(self.task),
            "architecture": self.architecture,
            "strategy": describe_strategy(self.spec.strategy),
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "run": self.run,
            "round": str(self.round),
            "record": self.record,
        }


def describe_model(genesis: Genesis, row: RoundRow, version: str) -> ModelInfo:
    """Return the information on the model of the round *row* in the run of *genesis*.

    *version* is that of this p2pfl.
    """
    return model_info(
        genesis.spec,
        genesis.agreement,
        version=version,
        run=row.run,
        round=row.training_round,
        record=row.record,
        digest=row.digest,
        metrics=row.metrics,
        examples=row.examples,
    )


def model_info(spec: RunSpec, agreement: Agreement, *, record: str = "", **values: Any) -> ModelInfo:
    """Return the information on a model of a run of *spec*; *values* are other fields of `ModelInfo`.

    *record* is empty for a model that no record committed, such as that of a simulation.
    """
    task = spec.task
    pictures = _pictures_of(task, agreement)
    return ModelInfo(
        record=record,
        spec=spec,
        architecture=model_name(task) or OWN,
        classes=agreement.classes,
        measures=agreement.measures,
        train_examples=agreement.examples,
        input_shape=agreement.input_shape or (pictures.shape if pictures is not None else ()),
        pictures=pictures,
        columns=tuple(map(ColumnInfo.of, agreement.columns)),
        target=ColumnInfo.of(agreement.target) if agreement.target is not None else None,
        **values,
    )


def _pictures_of(task: TaskSpec, agreement: Agreement) -> PictureInputs | None:
    if isinstance(task, BuiltinTask):
        entry = CATALOGUE.get(task.name)  # None: the run may be of a newer version
        return entry.inputs if entry is not None else None
    if isinstance(task, PicturesTask):
        channels, height, width = agreement.input_shape
        return own_pictures((channels, height, width))
    return None


def task_label(task: TaskSpec) -> str:
    """Return kind and name of *task* in one word, such as "builtin:digits" or "table:price"."""
    kind = str(task.__struct_config__.tag)
    match task:
        case BuiltinTask() | FileTask() | ScriptTask():
            return f"{kind}:{task.name}"
        case TableTask():
            return f"{kind}:{task.target}"
        case PicturesTask():
            return kind
        case _:
            assert_never(task)


def read_info(path: Path) -> ModelInfo:
    """Return what the exported model in the file *path* says about itself.

    Raises:
        UserError: it is no model file, or none that `p2pfl export` wrote.
    """
    metadata = _header(path).get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, Mapping) else None
    if not isinstance(text, str):
        raise UserError(
            f"{shown(path)} does not say which task and model it is of: only files that `p2pfl export` wrote "
            "do; export the model again."
        )
    try:
        info = msgspec.json.decode(text, type=ModelInfo)
        info.agreement()
    except (msgspec.MsgspecError, ValueError) as error:
        reason = unknown_tag(error) or one_line(str(error))
        raise UserError(
            f"The description in {shown(path)} cannot be read ({reason}): a newer p2pfl may have written it; "
            "upgrade p2pfl, or export the model again."
        ) from error
    return info


def read_schema(path: Path) -> Schema:
    """Return the tensors of the safetensors file *path*.

    Raises:
        UserError: it is no model file.
    """
    fields = _header(path)
    metadata = fields.pop("__metadata__", None) or {}
    try:
        buffers = frozenset(json.loads(metadata.get("buffers", "[]")))
        return canonical(
            msgspec.convert([name, field["dtype"], field["shape"], name in buffers], TensorSpec)
            for name, field in fields.items()
        )
    except (KeyError, TypeError, BlobError, msgspec.ValidationError) as error:
        raise UserError(
            f"The header of {shown(path)} cannot be read ({one_line(str(error))}): export the model again."
        ) from error


def _header(path: Path) -> dict[str, Any]:
    """Return the header of the safetensors file *path*.

    Raises:
        UserError: the file cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 0 < length <= MAX_HEADER_BYTES else b""
    except OSError as error:
        raise UserError(
            f"The model {shown(path)} cannot be read: {error.strerror}; check the path."
        ) from error
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or len(text) != length:
        raise UserError(
            f"{shown(path)} is no safetensors file; `p2pfl export FILE.safetensors` writes a model to one."
        )
    return fields
