"""Jobs of the worker process and their results.

Effects, inputs and worker commands all carry these values, so they have a module of their own. A job names
blobs by digest; the driver knows the paths of their files.
"""

from __future__ import annotations

import msgspec

from p2pfl.cards import Agreement, DataCard
from p2pfl.messages import Ballot
from p2pfl.spec import RunSpec


class TrainingJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train *model* on part *partition* of the training data, for *round*."""

    run: str
    round: int
    spec: RunSpec
    agreement: Agreement
    model: str
    partition: int
    trained: int = 0
    """Training rounds before this one; with *rounds* it determines the learning rate of a schedule."""
    rounds: int = 1
    """Training rounds that the run is to have."""
    state: str = ""
    """Digest of the strategy's state in the parent's record; empty if the strategy has none."""
    members: int = 1
    """Size of the roster."""
    memory: str = ""
    """Digest of this device's last update that a record of the run counts; empty without one. What the device
    remembers for itself, such as a control variate, is stored under this digest."""


class TrainingResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The update of a training job: it is stored as blob *digest*, but not flushed yet."""

    digest: str
    part: DataCard
    """The data that the update was trained on."""
    steps: int
    """Optimizer steps."""
    loss: float
    """Mean training loss over the last local epoch; finite."""
    seconds: float
    """Duration from the reading of the model to the writing of the update."""
    control: str = ""
    """Digest of the control of the update, stored like the update; empty if the strategy has none."""
    planned: int = 0
    """Steps that the training was to take, if the deadline cut it; 0: it took all."""


class EvaluationJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Evaluate *model*, the model of *round*, on part *part* of *parts* of the held-out data."""

    run: str
    round: int
    spec: RunSpec
    agreement: Agreement
    model: str
    part: int
    parts: int
    memory: str = ""
    """As in `TrainingJob`."""
    partition: int = 0
    """This device's part of the training data, to which the model is adapted in some runs."""


class WeightedUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An update to aggregate, and its weight."""

    digest: str
    examples: int
    """Number of examples that it was trained on: its weight."""
    steps: int = 1
    """Optimizer steps of its training."""
    loss: float = 0.0
    """The loss that its entry in the record states."""
    control: str = ""
    """Digest of its control; empty if the strategy has none."""


class AggregationJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Aggregate *updates* into the model of *round*, with the strategy of *spec*.

    The order of the updates affects the last bits of the result. They are sorted by node id, so every
    aggregator makes the same bytes from the same updates.
    """

    run: str
    round: int
    ballot: Ballot
    spec: RunSpec
    parent: str
    """The model that the updates were trained from."""
    updates: tuple[WeightedUpdate, ...]
    state: str = ""
    """Digest of the strategy's state in the parent's record; empty if the strategy has none."""
    members: int = 1
    """Size of the roster, of which the updates may be a sample."""


class AggregatedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """The aggregation succeeded: the new model is stored as blob *digest*, but not flushed yet."""

    digest: str
    state: str = ""
    """Digest of the new state of the strategy, stored like the model; empty if the strategy has none."""


class NotFinite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not_finite"):
    """No new model: an element of the result is NaN or infinite, and the parent's element is finite."""


class UnreadableUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unreadable"):
    """No new model: update *digest* could not be read. The job can be repeated without this update."""

    digest: str
    reason: str


class StrategyFailed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="strategy_failed"):
    """No new model: the strategy of the user's own failed, as it would on any device with the same file."""

    reason: str
    """With its place in the user's file."""


AggregationResult = AggregatedModel | NotFinite | UnreadableUpdate | StrategyFailed
"""The outcomes of an aggregation."""
