"""Inputs of the protocol core: results of effects, link changes, messages, requests of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from p2pfl.cards import Agreement, DataCard
from p2pfl.core.effects import WorkerEffect
from p2pfl.messages import Evaluation, Member, Message
from p2pfl.schema import Layout, Schema
from p2pfl.spec import RunSpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult


class Input(msgspec.Struct, frozen=True):
    """Base of all inputs."""


class Linked(Input, frozen=True):
    """A peer completed TLS and HELLO. A new link to a linked peer replaces the old link."""

    member: Member
    name: str


class Unlinked(Input, frozen=True):
    """The link to a peer ended."""

    node: str


class Received(Input, frozen=True):
    """A message arrived on the link to *member*, whose identity TLS and HELLO have proved."""

    member: Member
    message: Message


class BlobReady(Input, frozen=True):
    """A fetched blob and its companions are stored and usable: they fit the run, and passed the checks.

    If the `Fetch` wants them durable, this input comes twice: before the flush and after it.
    """

    digest: str
    durable: bool
    """Whether all are on disk. Before that, they may be aggregated or used in speculation, but allow no
    vote."""
    companions: tuple[str, ...] = ()
    """Digests of the companions (`p2pfl.core.effects.Fetch.companions`)."""

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all blobs that are ready, as in `Fetch.digests`."""
        return (self.digest, *self.companions)


class BlobProgress(Input, frozen=True):
    """Bytes of a blob that is being pulled have arrived; rate-limited."""

    digest: str


class BlobFailed(Input, frozen=True):
    """A blob or one of its companions could not be pulled (retry later), or is *invalid* (do not retry).

    *is_lost* says that the stored blob *digest* was found to be damaged, and is deleted.
    """

    digest: str
    reason: str
    invalid: bool
    is_lost: bool = False
    companions: tuple[str, ...] = ()
    """As in `BlobReady`."""

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all blobs that were fetched, as in `Fetch.digests`."""
        return (self.digest, *self.companions)

    def is_of(self, digests: tuple[str, ...]) -> bool:
        """Whether the blobs *digests* of a record or an update are not all here for that reason."""
        return self.digest in digests if self.is_lost else self.digests == digests


class Described(Input, frozen=True):
    """The worker knows the task of *spec*: the data card of this device, and the model's schema."""

    spec: RunSpec
    agreement: Agreement | None
    """As in `Describe`."""
    schema: Schema | None
    """None exactly if there is no agreement; empty if the data do not fit it."""
    card: DataCard


class SchemaRead(Input, frozen=True):
    """The *schema* of *layout*; None if it could not be read, for *reason*."""

    layout: Layout
    schema: Schema | None
    reason: str = ""


class Created(Input, frozen=True):
    """The initial model of *spec* for *agreement* is durable."""

    spec: RunSpec
    agreement: Agreement
    model: str
    schema: Schema


class TrainProgress(Input, frozen=True):
    """*done* of *total* batches of *job* are trained; *predicted* is the job's estimated total in seconds."""

    job: TrainingJob
    done: int
    total: int
    predicted: float


class Trained(Input, frozen=True):
    """*job* has ended with *result*."""

    job: TrainingJob
    result: TrainingResult


class Evaluated(Input, frozen=True):
    """*job* has ended with *evaluation*."""

    job: EvaluationJob
    evaluation: Evaluation


class Aggregated(Input, frozen=True):
    """*job* has ended with *result*."""

    job: AggregationJob
    result: AggregationResult


class WorkFailed(Input, frozen=True):
    """The worker failed to do the job of *effect*, after the driver's own retry."""

    effect: WorkerEffect
    reason: str

    @property
    def what(self) -> str:
        """The failed job, as a verb."""
        return type(self.effect).__name__.lower()


class Expect(Input, frozen=True):
    """New numbers of nodes to wait for before a run is founded: several addresses may be one device."""

    min_nodes: int
    """See `p2pfl.core.options.Options.min_nodes`."""
    listed: int
    """See `p2pfl.core.options.Options.listed`."""


class Go(Input, frozen=True):
    """The operator starts the run: this node's options hold, and its `--wait` ends."""


class Leave(Input, frozen=True):
    """The operator asks this node to leave the run."""


class OperatorRequest(Input, frozen=True):
    """An operator asks to pause, resume or end the run; see `p2pfl.messages.ControlRequest`."""

    what: Literal["pause", "resume", "end", "end-now"]
    by: str = ""
    """Name of the operator; empty if unknown."""


class Ban(Input, frozen=True):
    """The nodes that are banned now, by node id, each with the reason as half a sentence after its name."""

    nodes: Mapping[str, str]


class Kick(Input, frozen=True):
    """The present process of *node* is kicked: a record removes it, and it may come back as a newcomer."""

    node: str
    reason: str


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
    | Ban
    | Kick
)
"""All inputs."""
