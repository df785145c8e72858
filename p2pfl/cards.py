"""What a device tells about its data (data card), and what the data of a run have in common (agreement).

The data never leave a device. Before a run is founded, the cards of all members are merged into the agreement
(`p2pfl.agreement`), which is part of record 0: the classes in order, the columns with their scaling, the
metrics. It determines the shape of the model and how each device encodes its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pfl.spec import MAX_COLUMN_NAME, MetricName, Share
from p2pfl.spec_part import SpecPart
from p2pfl.text import one_line, plural

MAX_EXAMPLES = 2**40
"""Maximum number of examples that a device may state: more than any device holds, and small enough that the
weights of a whole roster are summed exactly in 53 bits."""

MAX_CLASSES = 1000
"""Maximum number of classes of a task; ImageNet has as many."""

MAX_SUMS = 16
"""Maximum number of sums of an evaluation."""

MAX_COUNTED_CLASSES = 100
"""Evaluations count per class in tasks with at most this number of classes."""

MAX_COLUMNS = 2000
"""Maximum number of columns of a table: a card of as many numbers takes about 200 KB."""

MAX_CATEGORIES = 100
"""Maximum number of categories of a column; rarer ones count as unknown."""

MAX_NOTES = 20
"""Maximum number of notes of a card and of an agreement."""

SHOWN_NAMES = 8
"""Names of columns or classes that a line for people lists."""

Examples = Annotated[int, Meta(ge=0, le=MAX_EXAMPLES)]
SomeExamples = Annotated[int, Meta(ge=1, le=MAX_EXAMPLES)]

Label = Annotated[str, Meta(min_length=1, max_length=64)]
"""Name of a class or a category. It may come from a peer and is untrusted text, which printers escape."""

ColumnName = Annotated[str, Meta(min_length=1, max_length=MAX_COLUMN_NAME)]
"""Name of a column of a table. Untrusted text too."""

Note = Annotated[str, Meta(min_length=1, max_length=300)]
"""A sentence about data for people. Untrusted text too."""

Value = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A finite float."""

Side = Annotated[int, Meta(ge=0, le=2**31)]
"""A dimension of an input."""


PERSONAL = "personal_"
"""Before the name of a metric of a model that is adapted to each device (`p2pfl.spec.adapts_to_devices`)."""

UNSHOWN_SUMS = frozenset({"target", "target_square"})
"""Sums that are of use only for "r2"."""

LOSSES = frozenset({"loss", "mse", "mae", "rmse", "error", "perplexity"})
"""Metrics of which a smaller value is better, as of every name that ends in "_loss" or "_error"."""


def metric_text(value: float) -> str:
    """Return *value* of a metric for people: with four decimals, or four digits if it is large or tiny."""
    is_plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:.4f}" if is_plain else f"{value:.4g}"


def metric_cell(value: float, width: int) -> str:
    """Return *value* of a metric in at most *width* (5 or more) characters, for a column."""
    texts = (f"{value:.{decimals}f}" for decimals in range(4, -1, -1))
    return next((text for text in texts if len(text) <= width), f"{value:.0e}".replace("e+", "e"))


def metric_heading(name: str, width: int) -> str:
    """Return the *name* of a metric as the heading of a column with *width* characters: "ACC", "R2"."""
    return "ACC" if name == "accuracy" else name.upper()[:width]


NOT_FINITE = 1e200
"""From here on a mean stands for NaN or infinity: the sum of a device that measured one is 1e300."""


def is_number(value: float) -> bool:
    """Return whether the mean *value* of a metric is a finite number on all devices."""
    return abs(value) < NOT_FINITE


class Measures(SpecPart, frozen=True):
    """The loss that trains a model and the metrics that judge it; the same on all devices of a run."""

    loss: Annotated[str, Meta(min_length=1, max_length=64)]
    """"cross-entropy", "mse", or the name of a loss of the user's own."""
    metrics: Annotated[tuple[MetricName, ...], Meta(min_length=1, max_length=MAX_SUMS)]
    """The names of the sums of every evaluation, sorted."""
    primary: MetricName
    """The metric by which models are compared; it may be a derived one (`p2pfl.messages.Evaluation`)."""
    direction: Literal["max", "min"]
    """Whether a larger or a smaller value of it is better."""
    counts_classes: bool = False
    """Whether evaluations count the right answers of each class (see `counted_classes`)."""

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a model with *value* of the primary metric is better than one with *than*, or than none."""
        if not is_number(value):
            return False
        if than is None or not is_number(than):
            return True
        return value > than if self.direction == "max" else value < than

    def reaches(self, metric: str, value: float, wanted: float) -> bool:
        """Whether *value* of *metric* is as good as *wanted*, or better."""
        if not is_number(value):
            return False
        return value >= wanted if self.direction_of(metric) == "max" else value <= wanted

    def with_personal(self) -> Measures:
        """Return these measures with those of a model that is adapted to each device."""
        own = {f"{PERSONAL}{name}" for name in self.metrics if name not in UNSHOWN_SUMS}
        return msgspec.structs.replace(self, metrics=tuple(sorted({*self.metrics, *own})))

    def without_personal(self) -> Measures:
        """Return the measures of the common model alone."""
        added = {f"{PERSONAL}{name}" for name in self.metrics}
        return msgspec.structs.replace(
            self, metrics=tuple(name for name in self.metrics if name not in added)
        )

    def direction_of(self, metric: str) -> Literal["max", "min"]:
        """Return whether a larger or a smaller value of *metric* is better.

        The agreement says so of the primary metric; of any other one its name does.
        """
        metric = metric.removeprefix(PERSONAL)
        if metric == self.primary:
            return self.direction
        is_loss = metric in LOSSES or metric.endswith(("_loss", "_error"))
        return "min" if is_loss else "max"


CLASSIFICATION = Measures("cross-entropy", ("accuracy", "loss"), "accuracy", "max", counts_classes=True)
"""Of the built-in tasks, of pictures, and of tables whose target is a class."""

REGRESSION = Measures("mse", ("loss", "mae", "mse", "target", "target_square"), "r2", "max")
"""Of tables whose target is a number. "loss" is the squared error of the standardised target, "mae" and "mse"
are in the units of the target. The metric "r2" is derived from "loss" and from the sums of the standardised
target and its square."""


R2_SUMS = frozenset({"loss", "target", "target_square"})
"""The sums from which "r2" is derived; it takes the place of the last two."""


class LabelCount(SpecPart, frozen=True, array_like=True):
    """A class on a device, and its number of examples; 0 if the device does not tell it."""

    label: Label
    examples: Examples


class ColumnCard(SpecPart, frozen=True, array_like=True):
    """A device's description of one column of its table."""

    name: ColumnName
    kind: Literal["number", "category"]
    values: Examples = 0
    """Number of rows with a value, held-out rows included."""
    missing: Examples = 0
    """Number of rows without a value."""
    mean: Value = 0.0
    """Of the values of a number column; 0 without a value."""
    spread: Annotated[float, Meta(ge=0, le=1e300)] = 0.0
    """Sum of the squared differences of the values from their mean."""
    categories: Annotated[tuple[Label, ...], Meta(max_length=MAX_CATEGORIES)] = ()
    """Sorted. A target that may be a number or a class has both statistics and categories."""


class AgreedColumn(SpecPart, frozen=True, array_like=True):
    """A column as all devices of a run encode it."""

    name: ColumnName
    kind: Literal["number", "category"]
    is_gappy: bool = False
    """Whether any device lacks a value: then an indicator of missing values is an input of the model too."""
    mean: Value = 0.0
    """Of the values of all devices; missing values are imputed with it."""
    deviation: Annotated[float, Meta(ge=0, le=1e300)] = 1.0
    """Standard deviation of the values of all devices; 1 if they are constant."""
    categories: Annotated[tuple[Label, ...], Meta(max_length=MAX_CATEGORIES)] = ()
    """Those of all devices, sorted. A value that is none of them is encoded as unknown."""


class DataCard(SpecPart, frozen=True):
    """A device's description of its data for a task. The data themselves never leave the device."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name of the task."""
    examples: SomeExamples
    """Number of training examples; 1 if the device shares nothing. For a built-in task it is the size of the
    whole training split."""
    labels: Annotated[tuple[LabelCount, ...], Meta(max_length=MAX_CLASSES)]
    """Its classes in the order of their indices, each with its number of examples."""
    measures: Measures = CLASSIFICATION
    share: Share = "labels"
    """What the device tells about its data."""
    input_shape: Annotated[tuple[Side, ...], Meta(max_length=8)] = ()
    """Shape of an input without the batch. Of pictures the most frequent [channels, height, width]."""
    columns: Annotated[tuple[ColumnCard, ...], Meta(max_length=MAX_COLUMNS)] = ()
    """The columns of a table, without the target."""
    target: ColumnCard | None = None
    """The target of a table."""
    notes: Annotated[tuple[Note, ...], Meta(max_length=MAX_NOTES)] = ()
    """What the device found unusual in its data, such as pictures that cannot be read."""
    source: Annotated[str, Meta(max_length=64)] = ""
    """Digest of the source of the user's task; empty for tasks without code."""
    strategy_source: Annotated[str, Meta(max_length=64)] = ""
    """Digest of the source of the user's strategy; empty for one of p2pfl."""

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
    measures: Measures = CLASSIFICATION
    share: Share = "labels"
    input_shape: Annotated[tuple[Side, ...], Meta(max_length=8)] = ()
    """Shape of a model's input without the batch; of pictures [channels, height, width]. Empty for built-in
    tasks, which know theirs."""
    columns: Annotated[tuple[AgreedColumn, ...], Meta(max_length=MAX_COLUMNS)] = ()
    """The columns of a table, without the target, in the order in which they are encoded."""
    target: AgreedColumn | None = None
    notes: Annotated[tuple[Note, ...], Meta(max_length=MAX_NOTES)] = ()
    """What is unusual about the data of single devices, each with the name of the device."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of every evaluation by name, derived ones included, the primary one first."""
        names = set(self.measures.metrics)
        if counted_classes(self):
            names.add("f1")
        if names >= R2_SUMS:
            names = names - {"target", "target_square"} | {"r2"}
        primary = self.measures.primary
        return tuple(sorted(names, key=lambda name: (name != primary, name)))


def counted_classes(agreement: Agreement) -> int:
    """Return the number of classes that every evaluation of a run counts; 0 if it counts none."""
    classes = len(agreement.classes)
    told = agreement.measures.counts_classes and agreement.share == "labels"
    return classes if told and classes <= MAX_COUNTED_CLASSES else 0


def column_lines(card: DataCard) -> list[str]:
    """Return which columns of the device's table are what, and which lack values, as lines for its user.

    Empty for data of another kind.
    """
    if card.target is None:
        return []
    numbers = [one.name for one in card.columns if one.kind == "number"]
    texts = [f"{one.name} ({len(one.categories)})" for one in card.columns if one.kind == "category"]
    parts = [
        f"{len(names)} {plural(len(names), noun)} ({_listed(names)})"
        for noun, names in (("number", numbers), ("category", texts))
        if names
    ]
    target = f"a class ({_listed(card.classes)})" if card.labels else "a number"
    lines = [f"columns: {'; '.join(parts)}; the target {one_line(card.target.name, 40)} is {target}"]
    if gaps := [f"{one.name} {one.missing:,}" for one in card.columns if one.missing]:
        lines.append(f"missing values by column: {_listed(gaps)}")
    return lines


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 40) for name in names[:SHOWN_NAMES])
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown
