"""Jobs of the worker and their results, as one value from the protocol core to the worker process and back.

They are apart from effects, inputs and worker commands because all three carry them. A job names blobs by
digest; where their files are is the driver's business.
"""

from __future__ import annotations

import msgspec

from p2pfl.messages import Ballot
from p2pfl.spec import DataCard, RunSpec


class TrainingJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train *model* on part *partition* of the data, for *round*."""

    run: str
    round: int
    spec: RunSpec
    model: str
    partition: int


class TrainingResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The update is here as blob *digest*, not flushed."""

    digest: str
    part: DataCard
    """The data it was trained on."""
    steps: int
    """Optimizer steps."""
    loss: float
    """Mean training loss over the last local epoch; finite."""
    seconds: float
    """From reading the model to the written update."""


class EvaluationJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Evaluate *model*, that of *round*, on part *part* of *parts* of the held-out data."""

    run: str
    round: int
    spec: RunSpec
    model: str
    part: int
    parts: int


class WeightedUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An update to be aggregated."""

    digest: str
    samples: int
    """Its weight."""


class AggregationJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make the model of *round* from *updates* by the strategy of *spec*.

    The order of the updates decides the last bits of the result. Members sort them by node id, so that every
    aggregator makes the same bytes of the same updates.
    """

    run: str
    round: int
    ballot: Ballot
    spec: RunSpec
    parent: str
    """The model the updates were trained from."""
    updates: tuple[WeightedUpdate, ...]


class AggregatedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """The new model is here as blob *digest*, not flushed."""

    digest: str


class NotFinite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not_finite"):
    """An element of the result is NaN or infinite where the parent's is finite: there is no new model."""


class UnreadableUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unreadable"):
    """Update *digest* could not be read, for *reason*; the job can be given again without it."""

    digest: str
    reason: str


AggregationResult = AggregatedModel | NotFinite | UnreadableUpdate
"""What can come of an aggregation."""
