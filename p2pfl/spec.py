"""The specification of a run: task, strategy, encoding, privacy, and options of training and rounds.

Each of the four is a tagged union of small frozen structs, so a new member needs no new message. The code of
a member is in `p2pfl.learning`. This module holds what a node needs without torch: names, bounds, metrics,
the blobs of a round and their schemas. Every function that depends on a union matches all its members, so a
new member is added in these functions only.

A tag that this version does not know is a difference of versions (`unknown_tag`), not a broken message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, assert_never

import msgspec
from msgspec import Meta

from p2pfl.schema import Schema

MAX_ROSTER = 256
"""Members of a roster. A record of 256 members takes about 100 KB; a control frame holds 1 MiB."""

MAX_EXAMPLES = 2**40
"""Maximum number of examples that a device may state: more than any device holds, and small enough that the
weights of a whole roster are summed exactly in 53 bits."""

MAX_CLASSES = 1000
"""Maximum number of classes of a task; ImageNet has as many."""

MAX_SUMS = 16
"""Maximum number of metrics of an evaluation."""

Examples = Annotated[int, Meta(ge=0, le=MAX_EXAMPLES)]
SomeExamples = Annotated[int, Meta(ge=1, le=MAX_EXAMPLES)]

Label = Annotated[str, Meta(min_length=1, max_length=64)]
"""Name of a class. It may come from a peer and is untrusted text, which printers escape."""

MetricName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
"""Name of a metric, such as "loss"."""

Role = Literal["model", "state", "update", "control"]
"""Role of a blob. A record names a model, and the state of the strategy if it has one. The entry of an update
names the update, and a control blob if the strategy uses one."""


class SpecPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Common settings of all parts of a specification."""


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


TaskSpec = BuiltinTask
"""All kinds of tasks."""

# --- strategy, encoding, privacy ----------------------------------------------------------------------------


class FedAvgSpec(SpecPart, frozen=True, tag="fedavg"):
    """Federated averaging: the mean of the updates, weighted by their examples (McMahan et al. 2017)."""


StrategySpec = FedAvgSpec
"""All aggregation strategies."""


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
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)]


class Participation(SpecPart, frozen=True):
    """Which members train in a round, and how long a round and a roster wait for them."""

    sample: Annotated[int, Meta(ge=0, le=MAX_ROSTER)]
    """Members selected to train in a round; 0 selects all."""
    min_updates: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    """Number of updates that suffice after the straggler deadline."""
    round_cap: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds after which a round closes with the updates so far, whatever its members predict."""
    drop_after: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds of absence after which a member may be dropped from the roster."""


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


_GROUPS = {"training": LocalTraining, "participation": Participation}
_TASK_OPTIONS = ("model", "partition", "partitions")


def to_options(spec: RunSpec) -> dict[str, Any]:
    """Return *spec* as a flat dictionary of options, with the names of the command line."""
    options: dict[str, Any] = {"rounds": spec.rounds, "seed": spec.seed}
    match spec.task:
        case BuiltinTask() as task:
            options |= {"task": task.name} | {name: getattr(task, name) for name in _TASK_OPTIONS}
        case _:
            assert_never(spec.task)
    for group in _GROUPS:
        options |= msgspec.structs.asdict(getattr(spec, group))
    return options


def from_options(**options: Any) -> RunSpec:
    """Return the spec of a built-in task with these *options*, named as in `to_options`.

    Raises:
        msgspec.ValidationError: an option is missing, unknown or out of bounds; its path ends in its name.
    """
    rest = dict(options)
    task = {"type": "builtin", "name": rest.pop("task", None)}
    task |= {name: rest.pop(name) for name in _TASK_OPTIONS if name in rest}
    groups = {
        name: {field: rest.pop(field) for field in kind.__struct_fields__ if field in rest}
        for name, kind in _GROUPS.items()
    }
    fixed = {"strategy": {"type": "fedavg"}, "encoding": {"type": "full"}, "privacy": {"type": "none"}}
    return msgspec.convert({**fixed, **rest, **groups, "task": task}, RunSpec)


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


# --- what is measured ---------------------------------------------------------------------------------------


class Primary(NamedTuple):
    """The metric by which models are compared."""

    name: str
    direction: Literal["max", "min"]

    def is_better(self, value: float, than: float) -> bool:
        """Whether a model with *value* is better than one with *than*."""
        return value > than if self.direction == "max" else value < than


def metric_names(spec: RunSpec) -> tuple[str, ...]:
    """Return the sorted metric names of every evaluation in a run of *spec*."""
    match spec.task:
        case BuiltinTask():
            return ("accuracy", "loss")
        case _:
            assert_never(spec.task)


def primary_metric(spec: RunSpec) -> Primary:
    """Return the metric that determines the best model of a run of *spec*."""
    match spec.task:
        case BuiltinTask():
            return Primary("accuracy", "max")
        case _:
            assert_never(spec.task)


# --- what a round decides -----------------------------------------------------------------------------------


def record_roles(spec: RunSpec) -> tuple[Role, ...]:
    """Return the roles of the blobs that every record of a run of *spec* names."""
    match spec.strategy:
        case FedAvgSpec():
            return ("model",)
        case _:
            assert_never(spec.strategy)


def update_roles(spec: RunSpec) -> tuple[Role, ...]:
    """Return the roles of the blobs that every update's entry in a run of *spec* names."""
    match spec.strategy:
        case FedAvgSpec():
            return ("update",)
        case _:
            assert_never(spec.strategy)


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
            raise ValueError(f"no blob has the role {role!r} in a run of the strategy {spec.strategy}")
        case _:
            assert_never(role)


def _update_schema(model: Schema, spec: RunSpec) -> Schema:
    match spec.encoding:
        case FullTensors():
            return model
        case _:
            assert_never(spec.encoding)


# --- data ---------------------------------------------------------------------------------------------------


class LabelCount(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Number of examples of one class on a device."""

    label: Label
    examples: Examples


class DataCard(SpecPart, frozen=True):
    """A device's description of its data for a task. The data themselves never leave the device."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name of the task."""
    examples: SomeExamples
    """Number of training examples. For a built-in task it is the size of the whole training split."""
    labels: Annotated[tuple[LabelCount, ...], Meta(max_length=MAX_CLASSES)]
    """Its classes in the order of their indices, each with its number of examples."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in order."""
        return tuple(count.label for count in self.labels)


class Agreement(SpecPart, frozen=True):
    """What the data of all members have in common; part of record 0."""

    classes: Annotated[tuple[Label, ...], Meta(max_length=MAX_CLASSES)]
    """The classes in the order of their indices, which is the order of the model's outputs."""
    examples: SomeExamples
    """Maximum that a member may state. For a built-in task it is the size of the common data set."""


def task_name(task: TaskSpec) -> str:
    """Return the name of *task*."""
    match task:
        case BuiltinTask():
            return task.name
        case _:
            assert_never(task)


def merge_cards(task: TaskSpec, cards: Mapping[str, DataCard]) -> tuple[Agreement | None, str]:
    """Return the agreement of the founding members' data *cards*, or None and the reason for a mismatch.

    *cards* holds at least one card by member name; their order does not matter. Cards of another task are
    ignored: their devices describe the data of *task* when they are offered the run.
    """
    match task:
        case BuiltinTask():
            own = {name: card for name, card in cards.items() if card.task == task.name}
            if not own:
                return None, f"nobody has described the data of {task.name}"
            first = min(own)
            agreement = Agreement(own[first].classes, min(card.examples for card in own.values()))
            for name in sorted(own):
                flaw = misfit(agreement, own[name])
                if flaw:
                    return None, f"the data of {name} do not fit those of {first}: {flaw}"
            return agreement, ""
        case _:
            assert_never(task)


def stated_examples(task: TaskSpec, card: DataCard | None, own: DataCard) -> int:
    """Return the number of examples stated by *card* for *task*; *own* is this device's card."""
    match task:
        case BuiltinTask():
            # All have the same public data set; a device started for another task describes it when offered.
            return card.examples if card is not None and card.task == task.name else own.examples
        case _:
            assert_never(task)


def misfit(agreement: Agreement, card: DataCard) -> str:
    """Return why the data of *card* do not fit *agreement*, as half a sentence; empty if they fit."""
    theirs, mine = agreement.classes, card.classes
    if mine == theirs:
        if card.examples <= agreement.examples:
            return ""
        return f"its data have {card.examples} examples, and those of the run {agreement.examples}"
    if len(set(mine)) < len(mine):
        return "its data name a class twice"
    if missing := [label for label in theirs if label not in mine]:
        return f"its data lack {_classes(missing)} of the run"
    if unknown := [label for label in mine if label not in theirs]:
        return f"its data have {_classes(unknown)}, which the run does not have"
    at = next(place for place, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    return (
        f"its classes come in another order: class {at} is {_short(mine[at])} here and {_short(theirs[at])} "
        "in the run"
    )


def _classes(labels: Iterable[str]) -> str:
    named = [_short(label) for label in labels]
    shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    return f"the {'class' if len(named) == 1 else 'classes'} {shown}"


def _short(label: str) -> str:
    return repr(label if label.isprintable() else "?")[:30]
