"""What a driver tells the protocol: the end of effects, links, messages, the operator's wishes."""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.core.effects import Evaluate
from p2pfl.messages import Ballot, Evaluation, Member, Message, RunSpec
from p2pfl.schema import Layout, Schema
from p2pfl.work import AggregationJob, AggregationResult


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
    """The worker knows the task of *spec*: its model's schema and the size of its training set."""

    spec: RunSpec
    schema: Schema
    max_samples: int


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
    """*done* of *total* batches for *round* are trained; the whole will take about *predicted* seconds."""

    run: str
    round: int
    done: int
    total: int
    predicted: float


class Trained(Input, frozen=True):
    """The training for *round* from *model* ended; the update is here as blob *digest*."""

    run: str
    round: int
    model: str
    digest: str
    samples: int
    loss: float
    seconds: float


class Evaluated(Input, frozen=True):
    """*model* was evaluated here, on part *part* of *parts* of the held-out data: the model of *round*."""

    run: str
    round: int
    model: str
    part: int
    parts: int
    evaluation: Evaluation

    def answers(self, effect: Evaluate) -> bool:
        """Whether this is the answer to *effect*."""
        return (self.run, self.round, self.model, self.part, self.parts) == (
            effect.run,
            effect.round,
            effect.model,
            effect.part,
            effect.parts,
        )


class Aggregated(Input, frozen=True):
    """*job* has ended with *result*."""

    job: AggregationJob
    result: AggregationResult


class WorkFailed(Input, frozen=True):
    """A worker's job failed, after the driver's own retry; the other fields are the job's, if it has them."""

    job: Literal["describe", "create", "train", "evaluate", "aggregate"]
    reason: str
    round: int = 0
    ballot: Ballot | None = None
    model: str = ""
    spec: RunSpec | None = None
    """Of what could not be described."""


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
