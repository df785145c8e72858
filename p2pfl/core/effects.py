"""Effects: the actions that the protocol core asks its driver to carry out.

The driver carries out effects in the order given. A `Save...` effect is durable (the file *and* its folder
are fsynced) before the driver begins any later effect: so the protocol core, which knows no disk, keeps rule
"Durable before answer". Commits, updates and reports are exceptions, since no vote depends on them: they may
become durable later, in order and before the next vote. An effect that takes time (`Fetch`, `Train`, ...)
only starts; its result arrives as an input (`p2pfl.core.inputs`).
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from p2pfl.cards import Agreement
from p2pfl.events import AnyEvent
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    Ballot,
    Commit,
    Evaluation,
    Genesis,
    Message,
    Record,
    RecordBlobs,
    UpdateBlobs,
    UpdateEntry,
)
from p2pfl.proofs import CastVote
from p2pfl.schema import FrozenTensors, Layout
from p2pfl.spec import Role, RunSpec
from p2pfl.work import AggregationJob, EvaluationJob, TrainingJob


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


# --- network ------------------------------------------------------------------------------------------------


class Send(Effect, frozen=True):
    """Queue *message* on the link to node *to*; without a link, it is dropped."""

    to: str
    message: Message


class SendRecords(Effect, frozen=True):
    """Send node *to* the committed records of *run* after round *after*, as many as fit into a frame.

    If *after* is -1, record 0 is sent, too.
    """

    to: str
    run: str
    after: int


class Sever(Effect, frozen=True):
    """Close the link to node *node*; the next handshake checks the node again."""

    node: str
    reason: str


class Dismiss(Effect, frozen=True):
    """Close the link to node *node*, which is kept out, behind everything queued for it."""

    node: str
    reason: str


# --- journal ------------------------------------------------------------------------------------------------


class SaveGenesis(Effect, frozen=True):
    """Save record 0 of *run*, which becomes the current run of this journal."""

    run: str
    genesis: Genesis


class SavePromise(Effect, frozen=True):
    """Save the promise of *ballot*: no vote for a lower ballot of this round.

    *votes* is the number of votes that this journal has cast, this one included; the same in `SaveAccepted`.
    """

    run: str
    round: int
    ballot: Ballot
    votes: int


class SaveAccepted(Effect, frozen=True):
    """Save the acceptance of *record* in *ballot*; the ballot thereby counts as promised."""

    run: str
    round: int
    ballot: Ballot
    record: Record
    votes: int


class SaveCommit(Effect, frozen=True):
    """Save a committed record with its proof; *seconds* is the duration of the round on this device."""

    run: str
    commit: Commit
    seconds: float


class SaveUpdate(Effect, frozen=True):
    """Save the update that this node trained for *round* from record *previous*.

    Its blob need not be durable: if a crash loses the bytes, the restarted node has no update.
    """

    run: str
    round: int
    previous: str
    update: UpdateEntry


class SaveReport(Effect, frozen=True):
    """Save the evaluation of the model of *round* by *node*, until a record with it is committed.

    *node* may be this node. No effect waits until it is durable.
    """

    run: str
    round: int
    node: str
    evaluation: Evaluation


class SaveResumed(Effect, frozen=True):
    """Save that the pause after *round* was lifted."""

    run: str
    round: int


class SaveSeen(Effect, frozen=True):
    """Save verified votes of other members, to detect a journal that later shows fewer (see `p2pfl.proofs`).

    The votes in a commit are saved with the commit.
    """

    casts: tuple[CastVote, ...]
    at_once: bool
    """Whether they must be durable before the next effect, which rests on them."""


class SaveRefused(Effect, frozen=True):
    """Save that the journal is a copy or was restored from a backup: no node starts with it any more."""

    reason: str


class SaveClosed(Effect, frozen=True):
    """Save that this journal has left *run* for good (`--new-run`, or a move to another run at round 0)."""

    run: str


Save = (
    SaveGenesis
    | SavePromise
    | SaveAccepted
    | SaveCommit
    | SaveUpdate
    | SaveReport
    | SaveResumed
    | SaveSeen
    | SaveRefused
    | SaveClosed
)
"""The effects that the journal carries out."""


def can_wait(save: Save) -> bool:
    """Return whether the effects after *save* may be carried out before it is durable.

    No vote depends on such a save. After a crash, this node learns a lost commit again from the members that
    accepted it, trains a lost update again, and does without a lost report. All of them are durable before
    the next vote. But the record that ends a run must be durable before this node announces the end.
    """
    match save:
        case SaveReport() | SaveUpdate():
            return True
        case SaveCommit():
            return save.commit.record.then == "go"
        case SaveSeen():
            return not save.at_once
        case SaveGenesis() | SavePromise() | SaveAccepted() | SaveResumed() | SaveRefused() | SaveClosed():
            return False
        case _:
            assert_never(save)


def needs_own_fsync(save: Save, seconds: float) -> bool:
    """Return whether *save*, which can wait, gets its own fsync: losing it would cost over *seconds*."""
    return isinstance(save, SaveUpdate) and save.update.seconds > seconds


# --- blobs --------------------------------------------------------------------------------------------------


class Companion(msgspec.Struct, frozen=True):
    """A further blob of a record or an update, such as the state of the strategy beside the model.

    Its layout follows from the model's schema, which is in the header of the fetched blob, and *spec*.
    """

    digest: str
    role: Role
    spec: RunSpec


class Fetch(Effect, frozen=True):
    """Pull blob *digest*, unless it is stored here; check it against *layout*, its elements against *parent*.

    *sources* are node ids, the most likely holder first. The *companions* are pulled and checked too.
    Answered with `BlobReady` when all are here, or with `BlobFailed`.
    """

    digest: str
    layout: Layout
    sources: tuple[str, ...]
    durable: bool = True
    """Whether it must be on disk before it counts as ready: models must be, updates to aggregate need not."""
    parent: str = ""
    """Digest of the model it was trained from: an element may be non-finite only if the same element of that
    model has the same bits. Empty for a committed model, whose elements are not checked."""
    companions: tuple[Companion, ...] = ()
    """The other blobs of the record or the update. Their elements must be finite, but those of a committed
    record are not checked."""
    is_frozen: bool = False
    """Whether it has the frozen tensors of the run, which are kept beside the blobs for good."""

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of all blobs that are fetched, as in `RecordBlobs.digests`."""
        return (self.digest, *(one.digest for one in self.companions))


def fetch_record(blobs: RecordBlobs, genesis: Genesis, sources: tuple[str, ...], parent: str = "") -> Fetch:
    """Return the effect that fetches the *blobs* of a record of the run of *genesis*; see `Fetch`."""
    state = (Companion(blobs.state, "state", genesis.spec),) if blobs.state else ()
    return Fetch(blobs.model, genesis.layout, sources, parent=parent, companions=state)


def fetch_update(
    blobs: UpdateBlobs, layout: Layout, spec: RunSpec, sources: tuple[str, ...], parent: str
) -> Fetch:
    """Return the effect that fetches the *blobs* of an update, which need not be durable; see `Fetch`."""
    control = (Companion(blobs.control, "control", spec),) if blobs.control else ()
    return Fetch(blobs.update, layout, sources, durable=False, parent=parent, companions=control)


def fetch_frozen(frozen: FrozenTensors, sources: tuple[str, ...]) -> Fetch:
    """Return the effect that fetches the frozen tensors of a run from *sources*; see `Fetch`."""
    return Fetch(frozen.digest, frozen.layout, sources, is_frozen=True)


class ReadSchema(Effect, frozen=True):
    """Read the schema of *layout* from the header of model *digest*, stored here or at *sources*.

    Answered with `SchemaRead`.
    """

    digest: str
    layout: Layout
    sources: tuple[str, ...]


class DeleteUnneededBlobs(Effect, frozen=True):
    """Delete the blobs that are not in *keep*, except the best model's and those being pulled."""

    keep: frozenset[str]


# --- worker -------------------------------------------------------------------------------------------------


class Describe(Effect, frozen=True):
    """Find the data card of this device for *spec*; with an agreement, the model's schema too.

    Answered with `Described` or `WorkFailed`.
    """

    spec: RunSpec
    agreement: Agreement | None = None
    """None: the devices have not agreed yet, and the data determine the shape of the model."""


class Create(Effect, frozen=True):
    """Make the initial model of *spec* for *agreement*, durable. Answered with `Created` or `WorkFailed`."""

    spec: RunSpec
    agreement: Agreement


class Train(Effect, frozen=True):
    """Train a model that is stored here.

    Answered with `TrainProgress`, any number of times, then `Trained` or `WorkFailed`.
    """

    job: TrainingJob


class StopTraining(Effect, frozen=True):
    """Stop the training under way; it gives no answer."""


class Evaluate(Effect, frozen=True):
    """Evaluate a model that is stored here. Answered with `Evaluated` or `WorkFailed`."""

    job: EvaluationJob


class Aggregate(Effect, frozen=True):
    """Aggregate updates that are stored here. Answered with `Aggregated` or `WorkFailed`."""

    job: AggregationJob


WorkerEffect = Describe | Create | Train | Evaluate | Aggregate
"""The effects that are jobs of the worker."""


# --- events and exit ----------------------------------------------------------------------------------------


class Tell(Effect, frozen=True):
    """Publish *event*."""

    event: AnyEvent


class Exit(Effect, frozen=True):
    """End the node's process."""

    code: ExitCode
    reason: str


AnyEffect = (
    Send
    | SendRecords
    | Sever
    | Dismiss
    | Save
    | Fetch
    | ReadSchema
    | DeleteUnneededBlobs
    | WorkerEffect
    | StopTraining
    | Tell
    | Exit
)
"""All effects."""
