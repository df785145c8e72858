"""The specification of a run: task, strategy, encoding, privacy, and options of training and rounds.

Each of the four is a tagged union of small frozen structs, so a new member needs no new message. The code of
a member is in `p2pfl.learning`. This module holds what a node needs without torch: names, bounds, options,
the blobs of a round and their schemas. Every function that depends on a union matches all its members. What
follows from the data of the devices (classes, columns, metrics) is not in the specification but in the
agreement of the run (`p2pfl.cards`).

A tag that this version does not know is a difference of versions (`unknown_tag`), not a broken message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, assert_never

import msgspec
from msgspec import Meta

from p2pfl.personal_specs import LoraSpec, Personalisation
from p2pfl.schema import FLOAT_DTYPES, Schema, TensorSpec, canonical
from p2pfl.spec_part import SpecPart
from p2pfl.strategy_specs import (
    DittoSpec,
    FedAvgSpec,
    StrategySpec,
    control_slots,
    describe_strategy,
    state_slots,
)

MAX_ROSTER = 256
"""Members of a roster. A record of 256 members takes about 100 KB; a control frame holds 1 MiB."""

MAX_METRIC_NAME = 32
"""Maximum number of characters of the name of a metric."""

MetricName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
"""Name of a metric, such as "loss"."""

Role = Literal["model", "state", "update", "control"]
"""Role of a blob. A record names a model, and the state of the strategy if it has one. The entry of an update
names the update, and a control blob if the strategy uses one."""


# --- the task -----------------------------------------------------------------------------------------------


class BuiltinTask(SpecPart, frozen=True, tag="builtin"):
    """A classification task of `p2pfl.learning.catalogue`, on a public data set that every device has.

    Each member trains on one part of the training split and evaluates on one part of the test split.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    model: Annotated[str, Meta(min_length=1, max_length=64)]
    partition: Annotated[str, Meta(min_length=1, max_length=64)]
    """How the training split is divided (`p2pfl.learning.partition`)."""
    partitions: Annotated[int, Meta(ge=1, le=2**16)]
    """Number of partitions; the member with a slot trains on partition `slot % partitions`."""


Holdout = Annotated[float, Meta(gt=0, lt=1)]
"""Share of a device's examples that it evaluates on and does not train on."""

Share = Literal["none", "counts", "labels"]
"""What a device tells about its private data, besides its updates and evaluations.

"labels": number of examples, names of the classes with their counts, statistics of the columns of a table.
"counts": the same without the counts of the classes. "none": nothing that is computed from the data; then
every update and every evaluation counts as one example.
"""

SHARES: tuple[Share, ...] = ("none", "counts", "labels")
"""The values of `Share`, from the one that tells least."""

MAX_COLUMN_NAME = 128
"""Maximum number of characters of the name of a column."""


MAX_IMAGE_SIZE = 1024
"""Maximum edge in pixels of the pictures of a model: a built-in model takes 1 GB of memory then."""


class PicturesTask(SpecPart, frozen=True, tag="pictures"):
    """Classification of private pictures: each device has a folder with one folder for each class."""

    model: Annotated[str, Meta(min_length=1, max_length=64)]
    """The name of a built-in model for pictures."""
    image_size: Annotated[int, Meta(ge=0, le=MAX_IMAGE_SIZE)] = 0
    """Edge in pixels to which pictures are scaled; 0: the agreement determines it."""
    augment: bool = False
    """Whether training pictures are cropped and flipped at random."""
    holdout: Holdout = 0.1
    share: Share = "labels"


class TableTask(SpecPart, frozen=True, tag="table"):
    """Prediction of one column of a private table from the others: each device has rows of its own."""

    target: Annotated[str, Meta(min_length=1, max_length=MAX_COLUMN_NAME)]
    """The name of the column to predict."""
    model: Annotated[str, Meta(min_length=1, max_length=64)]
    """The name of a built-in model for tables."""
    target_kind: Literal["auto", "class", "number"] = "auto"
    """Whether the target is a class or a number; "auto": the agreement determines it."""
    holdout: Holdout = 0.1
    share: Share = "labels"


class FileTask(SpecPart, frozen=True, tag="file"):
    """Model and data of a Python file that each device has. The file never travels."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    holdout: Holdout = 0.1
    share: Share = "labels"
    partition: Annotated[str, Meta(max_length=64)] = ""
    """How the data are divided, where they are the same on all devices, as in a demo; empty: each device has
    data of its own."""
    partitions: Annotated[int, Meta(ge=1, le=2**16)] = 1
    """Number of partitions of data that are the same on all devices."""


class ScriptTask(SpecPart, frozen=True, tag="script"):
    """A training loop in a program of the user, which submits its updates with `p2pfl.rounds`."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    share: Share = "labels"


TaskSpec = BuiltinTask | PicturesTask | TableTask | FileTask | ScriptTask
"""All kinds of tasks."""

OwnTask = PicturesTask | TableTask | FileTask | ScriptTask
"""The tasks whose data are private: each device trains and evaluates on its own."""


def task_name(task: TaskSpec) -> str:
    """Return the name of *task*, which a data card names too."""
    match task:
        case BuiltinTask() | FileTask() | ScriptTask():
            return task.name
        case PicturesTask():
            return "pictures"
        case TableTask():
            return "table"
        case _:
            assert_never(task)


def model_name(task: TaskSpec) -> str:
    """Return the name of the built-in model that *task* uses; empty if the model is the user's own."""
    match task:
        case BuiltinTask() | PicturesTask() | TableTask():
            return task.model
        case FileTask() | ScriptTask():
            return ""
        case _:
            assert_never(task)


def describe_task(task: TaskSpec) -> str:
    """Return *task* for people, such as "digits, model cnn, partition iid" or "pictures, model lenet"."""
    match task:
        case BuiltinTask():
            return f"{task.name}, model {task.model}, partition {task.partition}"
        case PicturesTask():
            return f"own pictures, model {task.model}"
        case TableTask():
            return f"own table, target {task.target}, model {task.model}"
        case FileTask() | ScriptTask():
            return f"{task.name}, own model"
        case _:
            assert_never(task)


def share_of(task: TaskSpec) -> Share:
    """Return what the devices tell about their data in a run of *task*."""
    return "labels" if isinstance(task, BuiltinTask) else task.share


def partitions_of(task: TaskSpec) -> int:
    """Return the number of partitions of the training data; 1 where each device has data of its own."""
    match task:
        case BuiltinTask():
            return task.partitions
        case FileTask():
            return task.partitions if task.partition else 1
        case PicturesTask() | TableTask() | ScriptTask():
            return 1
        case _:
            assert_never(task)


def is_divided(task: TaskSpec) -> bool:
    """Return whether all devices have the same data, of which each takes a part."""
    return isinstance(task, BuiltinTask) or (isinstance(task, FileTask) and bool(task.partition))


def evaluation_parts(task: TaskSpec, members: int) -> int:
    """Return into how many parts the held-out data are divided in a roster of *members*."""
    return members if is_divided(task) else 1


# --- encoding, privacy ----------------------------------------------------------------------------


class FullTensors(SpecPart, frozen=True, tag="full"):
    """Encodes an update as all tensors of the model, in the model's own types."""


EncodingSpec = FullTensors
"""All encodings of updates."""


class NoPrivacy(SpecPart, frozen=True, tag="none"):
    """Does not protect updates: the aggregator sees each of them."""


PrivacySpec = NoPrivacy
"""All privacy mechanisms."""

# --- options ------------------------------------------------------------------------------------------------


class LocalTraining(SpecPart, frozen=True):
    """How a member trains in a round."""

    epochs: Annotated[int, Meta(ge=1, le=10**6)]
    """Local epochs in a round (E in McMahan et al. 2017)."""
    batch_size: Annotated[int, Meta(ge=1, le=10**7)]
    """Local batch size (B in McMahan et al. 2017)."""
    learning_rate: Annotated[float, Meta(gt=0, le=1e6)]
    momentum: Annotated[float, Meta(ge=0, lt=1)]
    """Of the optimizer "sgd"."""
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)]
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    schedule: Literal["none", "cosine", "step"] = "none"
    """How the learning rate changes over the rounds of the run."""
    steps: Annotated[int, Meta(ge=0, le=10**9)] = 0
    """Optimizer steps in a round in place of `epochs`; 0: as many as the epochs have."""
    clip: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Maximum norm of the gradient of all parameters; 0: gradients are not clipped."""
    precision: Literal["full", "mixed"] = "full"
    """"mixed": the forward pass computes in 16 bits where the device can."""
    class_weights: bool = False
    """Whether rare classes weigh more in the loss: each class by the inverse of its number of examples."""
    deadline: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Seconds after which a training ends with the batch that it is in, and its update counts the steps so
    far; 0: never."""


SampleBy = Literal["uniform", "examples"]
"""How members are drawn: each with the same probability, or with one proportional to its examples."""


class Participation(SpecPart, frozen=True):
    """Which members train in a round, and how long a round and a roster wait for them."""

    sample: Annotated[int, Meta(ge=0, le=MAX_ROSTER)]
    """Members selected to train in a round; 0: `fraction` determines it."""
    min_updates: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    """Number of updates that suffice after the straggler deadline."""
    round_cap: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds after which a round closes with the updates so far, whatever its members predict."""
    drop_after: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds of absence after which a member may be dropped from the roster."""
    fraction: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Fraction of the roster that is selected to train (C in McMahan et al. 2017), at least one member; with
    0 and no `sample`, all train."""
    sample_by: SampleBy = "uniform"


class MetricTarget(SpecPart, frozen=True):
    """A value of a metric at which a run ends."""

    metric: MetricName
    value: Annotated[float, Meta(ge=-1e300, le=1e300)]


class Stopping(SpecPart, frozen=True):
    """When a run ends before its last round. The rule "Stopping early" says how it is decided."""

    until: MetricTarget | None = None
    """The run ends when the model of a round reaches this value."""
    patience: Annotated[int, Meta(ge=0, le=2**30)] = 0
    """The run ends after this number of rounds without a better primary metric; 0: it does not."""


class RunSpec(SpecPart, frozen=True):
    """The training that all members agreed on; part of record 0, and so of the run's id."""

    task: TaskSpec
    strategy: StrategySpec
    encoding: EncodingSpec
    privacy: PrivacySpec
    training: LocalTraining
    participation: Participation
    rounds: Annotated[int, Meta(ge=1, le=2**30)]
    """Number of training rounds. The evaluation record that closes the run is not counted."""
    seed: Annotated[int, Meta(ge=0, le=2**53)]
    """Seed of the initial model, of the data partitioning and of the order of examples."""
    stopping: Stopping = Stopping()
    personalisation: Personalisation = Personalisation()
    lora: LoraSpec | None = None
    """The adapters of the model; None: the model trains as its code made it."""

    @property
    def lora_scale(self) -> float | None:
        """The factor of the product of the adapters; None without adapters."""
        return self.lora.scale if self.lora is not None else None


def adapts_to_devices(spec: RunSpec) -> bool:
    """Return whether evaluations also measure a model that is adapted to each device."""
    return spec.personalisation.personalise > 0 or isinstance(spec.strategy, DittoSpec)


def is_particular(spec: RunSpec) -> bool:
    """Return whether the devices judge models that are particular to each of them."""
    return adapts_to_devices(spec) or bool(spec.personalisation.personal)


def personal_flaw(spec: RunSpec) -> str:
    """Return why the options of *spec* on what stays on a device exclude each other; empty if they do not."""
    own, strategy = spec.personalisation, spec.strategy
    if own.personalise and isinstance(strategy, DittoSpec):
        return (
            "--personalise and --strategy ditto each adapt the model to a device in a way of their own: use "
            "one of them"
        )
    if isinstance(spec.task, ScriptTask) and adapts_to_devices(spec):
        return "--personalise and --strategy ditto train a second model, which the loop of a script cannot do"
    return ""


_GROUPS = {
    "training": LocalTraining,
    "participation": Participation,
    "stopping": Stopping,
    "personalisation": Personalisation,
}
_KINDS: dict[str, type[SpecPart]] = {
    "builtin": BuiltinTask,
    "pictures": PicturesTask,
    "table": TableTask,
    "file": FileTask,
    "script": ScriptTask,
}


def to_options(spec: RunSpec) -> dict[str, Any]:
    """Return *spec* as a flat dictionary of options, with the names of the command line.

    "kind" is the tag of the task, and "task" its name if it has one. "strategy" is the tag of the strategy,
    and "strategy_arg" has its options that are not the default.
    """
    options: dict[str, Any] = {"rounds": spec.rounds, "seed": spec.seed}
    options["kind"] = spec.task.__struct_config__.tag
    if spec.lora is not None:
        options["lora"] = spec.lora
    strategy = msgspec.to_builtins(spec.strategy)
    options["strategy"], options["strategy_arg"] = strategy.pop("type"), strategy
    for name, value in msgspec.structs.asdict(spec.task).items():
        options["task" if name == "name" else name] = value
    for group in _GROUPS:
        options |= msgspec.structs.asdict(getattr(spec, group))
    return options


def shown_options(spec: RunSpec) -> dict[str, Any]:
    """Return the options of *spec* as in `to_options`, for people: "strategy" has its arguments with it."""
    options = {name: value for name, value in to_options(spec).items() if name != "strategy_arg"}
    return options | {"strategy": describe_strategy(spec.strategy)}


def describe_run(spec: RunSpec) -> str:
    """Return what a run of *spec* trains, for people: its task, and its strategy unless that is FedAvg.

    For example "digits, model cnn, partition iid, strategy fedadam (server_lr 0.05)".
    """
    task = describe_task(spec.task)
    is_plain = isinstance(spec.strategy, FedAvgSpec)
    return task if is_plain else f"{task}, strategy {describe_strategy(spec.strategy)}"


def from_options(**options: Any) -> RunSpec:
    """Return the spec with these *options*, named as in `to_options`; without "kind", of a built-in task.

    Raises:
        msgspec.ValidationError: an option is missing, unknown or out of bounds; its path ends in its name.
    """
    rest = dict(options)
    kind = rest.pop("kind", "builtin")
    fields = _KINDS[kind].__struct_fields__
    task = {name: rest.pop(name) for name in fields if name in rest}
    if "name" in fields:
        task["name"] = rest.pop("task", None)
    groups = {
        name: {field: rest.pop(field) for field in group.__struct_fields__ if field in rest}
        for name, group in _GROUPS.items()
    }
    if not any(groups["personalisation"].values()):
        del groups["personalisation"]  # so that it is left out of the encoding
    strategy = {**rest.pop("strategy_arg", {}), "type": rest.pop("strategy", "fedavg")}
    fixed = {"encoding": {"type": "full"}, "privacy": {"type": "none"}}
    whole = {**fixed, **rest, **groups, "task": {"type": kind, **task}, "strategy": strategy}
    return msgspec.convert(msgspec.to_builtins(whole), RunSpec)


def with_options(spec: RunSpec, **changes: Any) -> RunSpec:
    """Return *spec* with *changes*, named as in `to_options`."""
    return from_options(**{**to_options(spec), **changes})


_UNKNOWN_TAG = re.compile(
    r"Invalid value '(.*)' - at `\$.*spec\.(task|strategy|encoding|privacy)\.type`\Z", re.DOTALL
)
"""The error text of msgspec for a tag without a struct."""


def unknown_tag(error: Exception) -> str:
    """Return what this version does not know, such as "strategy 'fedprox'"; empty for any other *error*."""
    found = _UNKNOWN_TAG.match(str(error))
    if found is None:
        return ""
    tag = found[1] if found[1].isprintable() else "?"
    return f"{found[2]} '{tag[:40]}'"


# --- what a round decides -----------------------------------------------------------------------------------


def record_roles(spec: RunSpec) -> tuple[Role, ...]:
    """Return the roles of the blobs that every record of a run of *spec* names."""
    return ("model", "state") if state_slots(spec.strategy) else ("model",)


def update_roles(spec: RunSpec) -> tuple[Role, ...]:
    """Return the roles of the blobs that every update's entry in a run of *spec* names."""
    return ("update", "control") if control_slots(spec.strategy) else ("update",)


def blob_schema(model: Schema, spec: RunSpec, role: Role) -> Schema:
    """Return the schema of the blobs of *role* in a run of *spec* whose model has the schema *model*.

    The schema determines the length (`p2pfl.schema.file_bytes`). A blob of any other length is refused before
    memory is allocated for it.

    Raises:
        ValueError: no blob of a run of *spec* has this role.
    """
    match role:
        case "model":
            return model
        case "update":
            return _update_schema(model, spec)
        case "state" | "control":
            slots = (state_slots if role == "state" else control_slots)(spec.strategy)
            if not slots:
                raise ValueError(f"no blob has the role {role!r} in a run of the strategy {spec.strategy}")
            return slot_schema(model, slots)
        case _:
            assert_never(role)


def _update_schema(model: Schema, spec: RunSpec) -> Schema:
    match spec.encoding:
        case FullTensors():
            return model
        case _:
            assert_never(spec.encoding)


def slot_schema(model: Schema, slots: Sequence[str]) -> Schema:
    """Return the schema of a blob with a number in each of *slots* for each float element of *model*.

    The elements of one dtype, in the order of the model file, are one tensor of shape [elements, slots]. Its
    name is a counter and the dtype, such as "0.F32". The numbers of elements of F64 are F64, all others F32.
    """
    counts: dict[str, int] = {}
    for tensor in model:
        if tensor.dtype in FLOAT_DTYPES:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
    return canonical(
        TensorSpec(f"{place}.{dtype}", "F64" if dtype == "F64" else "F32", (count, len(slots)))
        for place, (dtype, count) in enumerate(counts.items())
    )
