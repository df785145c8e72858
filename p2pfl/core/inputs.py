"""What a driver tells the protocol: the end of effects, links, messages, the operator's wishes."""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.core.effects import WorkerEffect
from p2pfl.messages import Evaluation, Member, Message
from p2pfl.schema import Layout, Schema
from p2pfl.spec import DataCard, RunSpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult


class Input(msgspec.Struct, frozen=True):
    """Base of all inputs."""


class Linked(Input, frozen=True):
    """A peer passed TLS and HELLO. A new link to a known peer replaces the old one."""

    member: Member
    name: str


class Unlinked(Input, frozen=True):
    """The link to a peer ended."""

    node: str


class Received(Input, frozen=True):
    """A message came in on the link to *member*, whose identity TLS and HELLO have shown."""

    member: Member
    message: Message


class BlobReady(Input, frozen=True):
    """A fetched blob is here and usable: it fits the run's schema, and its elements may be what they are.

    Where the `Fetch` wants it durable this is said twice: before it is flushed, and when it is on disk.
    """

    digest: str
    durable: bool
    """One that is not is good for averaging and a head start, never for a vote."""


class BlobProgress(Input, frozen=True):
    """Bytes of a blob that is being fetched have come; told now and then."""

    digest: str


class BlobFailed(Input, frozen=True):
    """A blob could not be had (try again later), or is *invalid* (never try again).

    One that *is_lost* was here and used, and was found to be damaged meanwhile: it is deleted.
    """

    digest: str
    reason: str
    invalid: bool
    is_lost: bool = False


class Described(Input, frozen=True):
    """The worker knows the task of *spec*: its model's schema, and the data this device has for it."""

    spec: RunSpec
    schema: Schema
    card: DataCard


class SchemaRead(Input, frozen=True):
    """The *schema* of *layout*; None where it could not be had, for *reason*."""

    layout: Layout
    schema: Schema | None
    reason: str = ""


class Created(Input, frozen=True):
    """The initial model of *spec* is durable."""

    spec: RunSpec
    model: str


class TrainProgress(Input, frozen=True):
    """*done* of *total* batches of *job* are trained; the whole will take about *predicted* seconds."""

    job: TrainingJob
    done: int
    total: int
    predicted: float


class Trained(Input, frozen=True):
    """*job* has ended with *result*."""

    job: TrainingJob
    result: TrainingResult


class Evaluated(Input, frozen=True):
    """*job* has ended: this is how its model does here."""

    job: EvaluationJob
    evaluation: Evaluation


class Aggregated(Input, frozen=True):
    """*job* has ended with *result*."""

    job: AggregationJob
    result: AggregationResult


class WorkFailed(Input, frozen=True):
    """The worker could not do what *effect* asks for, after the driver's own retry."""

    effect: WorkerEffect
    reason: str

    @property
    def what(self) -> str:
        """Return what it could not do, as a verb."""
        return type(self.effect).__name__.lower()


class Expect(Input, frozen=True):
    """How many nodes the operator wants before a run is founded: more is known of the listed addresses."""

    min_nodes: int


class Go(Input, frozen=True):
    """The operator ends this node's `--wait`."""


class Leave(Input, frozen=True):
    """The operator wants this node to leave politely."""


class OperatorRequest(Input, frozen=True):
    """An operator wants the run paused, resumed or ended; see `p2pfl.messages.ControlRequest`."""

    what: Literal["pause", "resume", "end", "end-now"]
    by: str = ""
    """Who."""


AnyInput = (
    Linked
    | Unlinked
    | Received
    | BlobReady
    | BlobProgress
    | BlobFailed
    | Described
    | SchemaRead
    | Created
    | TrainProgress
    | Trained
    | Evaluated
    | Aggregated
    | WorkFailed
    | Expect
    | Go
    | Leave
    | OperatorRequest
)
"""Every input there is."""
