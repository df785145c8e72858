"""What a run trains: its task, strategy, encoding and privacy, and the options of training and of rounds.

Each of the four is a tagged union of small frozen structs, so that a new member needs no new message. The
code behind a member lives in `p2pfl.learning`; here is what a node must know about it without torch: names,
bounds, the metrics that are measured, the blobs a round decides and the schema of each. Every function that
depends on a member of a union matches on all of them, so that a new member is added in these places and
nowhere else.

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
"""The largest number of examples a device may state: more than any device can hold, and so few that the
weights of a whole roster are summed exactly in 53 bits."""

MAX_CLASSES = 1000
"""Classes of a task, and labels that are counted: ImageNet has as many."""

MAX_SUMS = 16
"""Metrics of an evaluation."""

Examples = Annotated[int, Meta(ge=0, le=MAX_EXAMPLES)]
SomeExamples = Annotated[int, Meta(ge=1, le=MAX_EXAMPLES)]

Label = Annotated[str, Meta(min_length=1, max_length=64)]
"""What a class is called. Untrusted text where a peer says it: printers escape it."""

MetricName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
"""What an evaluation measures, as "loss"."""

Role = Literal["model", "state", "update", "control"]
"""What a blob is to the round that names it: a record names a model, and the strategy's state if it has one;
an update's entry names the update, and what the strategy wants beside it."""


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
    """Into how many parts it is divided; a slot trains on part `slot % partitions`."""


TaskSpec = BuiltinTask
"""Every kind of task."""

# --- strategy, encoding, privacy ----------------------------------------------------------------------------


class FedAvgSpec(SpecPart, frozen=True, tag="fedavg"):
    """Federated averaging: the mean of the updates, weighted by their examples (McMahan et al. 2017)."""


StrategySpec = FedAvgSpec
"""Every rule of aggregation."""


class FullTensors(SpecPart, frozen=True, tag="full"):
    """An update is all tensors of the model, in the model's own types."""


EncodingSpec = FullTensors
"""Every form in which an update travels."""


class NoPrivacy(SpecPart, frozen=True, tag="none"):
    """The aggregator sees each update."""


PrivacySpec = NoPrivacy
"""Every protection of updates."""

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
    """Updates that suffice once the straggler deadline has passed."""
    round_cap: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds after which a round closes with what is there, however slow its members promise to be."""
    drop_after: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds of absence after which a member may be dropped from the roster."""


class RunSpec(SpecPart, frozen=True):
    """The training all members agreed on; part of record 0 and so of the run's id."""

    task: TaskSpec
    strategy: StrategySpec
    encoding: EncodingSpec
    privacy: PrivacySpec
    training: LocalTraining
    participation: Participation
    rounds: Annotated[int, Meta(ge=1, le=2**30)]
    """Rounds of training. The evaluation record that closes the run is not counted."""
    seed: Annotated[int, Meta(ge=0, le=2**53)]
    """Of the initial model, of the division of the data and of the order of examples."""


_GROUPS = {"training": LocalTraining, "participation": Participation}
_TASK_OPTIONS = ("model", "partition", "partitions")


def to_options(spec: RunSpec) -> dict[str, Any]:
    """Return *spec* as the options people give: flat, by the names of the command line."""
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
    """Return the specification of a built-in task with these *options*, named as in `to_options`.

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
"""What msgspec says of a tag it has no struct for."""


def unknown_tag(error: Exception) -> str:
    """Return, as "strategy 'fedprox'", what this version does not know; empty if *error* is another one."""
    found = _UNKNOWN_TAG.match(str(error))
    if found is None:
        return ""
    tag = found[1] if found[1].isprintable() else "?"
    return f"{found[2]} '{tag[:40]}'"


# --- what is measured ---------------------------------------------------------------------------------------


class Primary(NamedTuple):
    """The one metric by which models are compared."""

    name: str
    direction: Literal["max", "min"]

    def is_better(self, value: float, than: float) -> bool:
        """Whether a model with *value* is better than one with *than*."""
        return value > than if self.direction == "max" else value < than


def metric_names(spec: RunSpec) -> tuple[str, ...]:
    """Return the names of the sums in every evaluation of a run of *spec*, sorted."""
    match spec.task:
        case BuiltinTask():
            return ("accuracy", "loss")
        case _:
            assert_never(spec.task)


def primary_metric(spec: RunSpec) -> Primary:
    """Return the metric that decides which model of a run of *spec* is the best."""
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

    Its length follows from it (`p2pfl.schema.file_bytes`): a blob of any other length is refused before room
    is made for it, and whoever writes one writes this.

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
    """How many examples a device has of one class."""

    label: Label
    examples: Examples


class DataCard(SpecPart, frozen=True):
    """What a device says of the data it brings to a task; the data themselves never leave it."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name of the task."""
    examples: SomeExamples
    """Of its training data; of a built-in task the whole training split, of which it trains on a part."""
    labels: Annotated[tuple[LabelCount, ...], Meta(max_length=MAX_CLASSES)]
    """Its classes in the order of their indices, with how many examples it has of each."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in order."""
        return tuple(count.label for count in self.labels)


class Agreement(SpecPart, frozen=True):
    """What the data of all members have in common; part of record 0."""

    classes: Annotated[tuple[Label, ...], Meta(max_length=MAX_CLASSES)]
    """The classes in the order of their indices: what a model's outputs mean."""
    examples: SomeExamples
    """The most that a member may state: of a built-in task the size of the data set that all have."""


def task_name(task: TaskSpec) -> str:
    """Return what people call *task*."""
    match task:
        case BuiltinTask():
            return task.name
        case _:
            assert_never(task)


def merge_cards(task: TaskSpec, cards: Mapping[str, DataCard]) -> tuple[Agreement | None, str]:
    """Return the agreement that the data *cards* of the founding members allow, or None and why not.

    *cards* are by the members' names, at least one. The result does not depend on their order. Cards of
    another task are left aside: their devices describe the data of *task* when they are offered the run.
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
    """Return how many examples the device with *card* states for *task*, seen from the device with *own*."""
    match task:
        case BuiltinTask():
            # All have the same public data set: who was started for another task describes it when offered.
            return card.examples if card is not None and card.task == task.name else own.examples
        case _:
            assert_never(task)


def misfit(agreement: Agreement, card: DataCard) -> str:
    """Say in half a sentence why a device with *card* cannot take part under *agreement*; empty if it can."""
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
