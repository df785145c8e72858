"""What the protocol asks its driver to do.

Effects are carried out in the order given. A `Save...` effect is durable (the file *and* its folder fsynced)
before any later effect of the list is begun: this is how "no answer before the disk has it" is kept without
the protocol knowing a disk. (Commits, updates and reports may follow later, in order and before the next
vote: no vote depends on them.) Effects that take time (`Fetch`, `Train`, ...) only start there; their end
comes back as an input (`p2pfl.core.inputs`).
"""

from __future__ import annotations

import msgspec

from p2pfl.events import AnyEvent
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Ballot, Commit, Evaluation, Genesis, Message, Record, UpdateEntry
from p2pfl.proofs import CastVote
from p2pfl.schema import Layout
from p2pfl.spec import RunSpec
from p2pfl.work import AggregationJob, EvaluationJob, TrainingJob


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


# --- network ------------------------------------------------------------------------------------------------


class Send(Effect, frozen=True):
    """Queue *message* on the link to node *to*; without a link it is lost."""

    to: str
    message: Message


class SendRecords(Effect, frozen=True):
    """Send node *to* the committed records of *run* after round *after*, as many as a frame holds.

    With *after* -1 record 0 goes as well.
    """

    to: str
    run: str
    after: int


class Sever(Effect, frozen=True):
    """End the link to node *node*; the next handshake judges it anew."""

    node: str
    reason: str


# --- journal ------------------------------------------------------------------------------------------------


class SaveGenesis(Effect, frozen=True):
    """Keep record 0; from now on this journal is in that run."""

    run: str
    genesis: Genesis


class SavePromise(Effect, frozen=True):
    """Never again answer a lower ballot of this round.

    *votes* is how many votes this journal has cast, this one included; so it is in `SaveAccepted`.
    """

    run: str
    round: int
    ballot: Ballot
    votes: int


class SaveAccepted(Effect, frozen=True):
    """The record accepted in *ballot* (which is promised thereby)."""

    run: str
    round: int
    ballot: Ballot
    record: Record
    votes: int


class SaveCommit(Effect, frozen=True):
    """A committed record with its proof; *seconds* is what the round took here."""

    run: str
    commit: Commit
    seconds: float


class SaveUpdate(Effect, frozen=True):
    """The update this node trained for *round* from record *previous*.

    Its blob need not be durable: an update whose bytes did not survive a crash comes back as none.
    """

    run: str
    round: int
    previous: str
    update: UpdateEntry


class SaveReport(Effect, frozen=True):
    """How the committed model of *round* did at *node*, perhaps this one: history until it is committed.

    Nothing waits for it to be durable.
    """

    run: str
    round: int
    node: str
    evaluation: Evaluation


class SaveResumed(Effect, frozen=True):
    """The pause after *round* was lifted."""

    run: str
    round: int


class SaveSeen(Effect, frozen=True):
    """Votes of other members, checked: their journals never again show fewer (see `p2pfl.proofs`).

    Those in a commit are remembered with it.
    """

    casts: tuple[CastVote, ...]
    at_once: bool
    """Whether what follows rests on them."""


class SaveRefused(Effect, frozen=True):
    """The journal is a copy or was restored from a backup: no node starts with it any more."""

    reason: str


class SaveClosed(Effect, frozen=True):
    """The journal has turned its back on *run* (`--new-run`, or it moved to another at round 0)."""

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
"""The effects a journal carries out."""


def can_wait(save: Save) -> bool:
    """Tell whether the effects behind *save* may be carried out before it is on disk.

    No vote depends on these: a commit that a crash takes is learned again from those who accepted it, an
    update is trained again, a report is history. All are on disk before the next vote is. Only the record
    that ends a run must be there before this node says that it is.
    """
    match save:
        case SaveReport() | SaveUpdate():
            return True
        case SaveCommit():
            return save.commit.record.then == "go"
        case SaveSeen():
            return not save.at_once
        case _:
            return False


def needs_own_fsync(save: Save, seconds: float) -> bool:
    """Tell whether *save*, which can wait, is worth its own flush: a crash would cost more than *seconds*."""
    return isinstance(save, SaveUpdate) and save.update.seconds > seconds


# --- blobs --------------------------------------------------------------------------------------------------


class Fetch(Effect, frozen=True):
    """Bring blob *digest* here, whole, and check it against *layout* and its elements against *parent*.

    *sources* are node ids, the likeliest first. Answered with `BlobReady` or `BlobFailed`, at once when it is
    here.
    """

    digest: str
    layout: Layout
    sources: tuple[str, ...]
    durable: bool = True
    """Whether it must be on disk before it counts as ready: models must, updates to be averaged need not."""
    parent: str = ""
    """The model it was trained from: an element may be non-finite only where this one's has the same bits.
    Empty for a model that a record has settled already: its elements are the run's, whatever they are."""


class ReadSchema(Effect, frozen=True):
    """Find the schema of *layout*: it is in the header of model *digest*, here or at *sources*.

    Answered with `SchemaRead`.
    """

    digest: str
    layout: Layout
    sources: tuple[str, ...]


class DeleteUnneededBlobs(Effect, frozen=True):
    """Blobs outside *keep* may be deleted, except the best model's and those being pulled."""

    keep: frozenset[str]


# --- worker -------------------------------------------------------------------------------------------------


class Describe(Effect, frozen=True):
    """Ask the worker for the model schema and data of *spec*. Answered with `Described` or `WorkFailed`."""

    spec: RunSpec


class Create(Effect, frozen=True):
    """Make the initial model of *spec* from its seed, durable. Answered with `Created` or `WorkFailed`."""

    spec: RunSpec


class Train(Effect, frozen=True):
    """Train a model that is here.

    Answered with `TrainProgress`, any number of times, then `Trained` or `WorkFailed`.
    """

    job: TrainingJob


class StopTraining(Effect, frozen=True):
    """The training under way is of no use any more; it answers nothing."""


class Evaluate(Effect, frozen=True):
    """Evaluate a model that is here. Answered with `Evaluated` or `WorkFailed`."""

    job: EvaluationJob


class Aggregate(Effect, frozen=True):
    """Make a round's new model from updates that are here. Answered with `Aggregated` or `WorkFailed`."""

    job: AggregationJob


WorkerEffect = Describe | Create | Train | Evaluate | Aggregate
"""The effects that are jobs of the worker."""


# --- people -------------------------------------------------------------------------------------------------


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
    | Save
    | Fetch
    | ReadSchema
    | DeleteUnneededBlobs
    | WorkerEffect
    | StopTraining
    | Tell
    | Exit
)
"""Every effect there is."""
