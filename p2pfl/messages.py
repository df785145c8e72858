"""The messages between nodes about a run, and the records they decide; they contain digests, never tensors.

Every message is a frozen, tagged struct; msgspec checks types while decoding and refuses unknown fields.
Bounds that types cannot express (a round is not negative, a name has a length) are `Annotated` here, so
handlers need not check them again. Link-level frames (HELLO, WELCOME, PING, address exchange) live in
`p2pfl.wire`; the handling of messages is in `p2pfl.core`.

Digests are lower-case hex BLAKE3 (64 characters). A record's digest is taken over its MessagePack encoding
with the fields in the order written here; `record_digest` is the only place that computes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta

from p2pfl.cards import MAX_COUNTED_CLASSES, MAX_SUMS, R2_SUMS, Agreement, DataCard, SomeExamples
from p2pfl.schema import Layout
from p2pfl.spec import MAX_ROSTER, MetricName, Role, RunSpec

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""Hex BLAKE3 of a blob or a record. (In these patterns `$` would let a newline follow; `\\Z` does not.)"""

DigestOrEmpty = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""A `Digest` or "" for none. (A union with `Literal[""]` is not possible: msgspec applies the pattern to
every string of a union.)"""

NodeId = Annotated[str, Meta(pattern=r"^[a-z2-7]{52}\Z")]
"""Lower-case base32 of SHA-256 of a node's public key (SPKI), without padding."""

JournalId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 random bytes in hex, made with a data directory."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
"""A device's name, from its certificate. Untrusted text: printers escape it."""

Reason = Annotated[str, Meta(max_length=300)]
"""Half a sentence for people. Untrusted text."""

Software = Annotated[str, Meta(max_length=64)]
"""A version of p2pfl. Untrusted text."""

Round = Annotated[int, Meta(ge=0, le=2**31)]
Rounds = Annotated[int, Meta(ge=0, le=2**30)]
"""Rounds that a run trains, or that precede its start. The bound is half of what a record can hold, so the
sum of two such numbers always fits into a record."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A finite float: NaN and the infinities satisfy neither bound."""

PublicKey = Annotated[bytes, Meta(min_length=1, max_length=256)]
"""DER of a SubjectPublicKeyInfo; of a key on P-256 it has 91 bytes."""

Signature = Annotated[bytes, Meta(min_length=1, max_length=128)]
"""ECDSA on P-256 with SHA-256, in DER: at most 72 bytes."""

MAX_ATTEMPT = 2**31
"""The highest attempt of a ballot. With ten candidacies a second, a member reaches it after seven years."""

MAX_GIVEN = 64
"""Maximum number of options of the run that a node says were given to it: more than there are."""

MAX_OPTION_TEXT = 100
"""Maximum number of characters of the value of such an option."""

MAX_CHOICE = 2**53
"""The highest number of a decision whose options hold (`Status.choice`)."""

MAX_ORIGINS = 64
"""How often a run can be continued by an operator after it lost its majority."""


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base class of everything that is sent over the network."""


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True, forbid_unknown_fields=True):
    """`(attempt, node id)`, totally ordered: one ballot has one proposer and never two values."""

    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    node: NodeId


class Member(msgspec.Struct, frozen=True, order=True, array_like=True, forbid_unknown_fields=True):
    """A voter: a node together with the data directory that stores its promises."""

    node: NodeId
    journal: JournalId


class SignedVote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's vote, signed with its certificate's key. The enclosing message says what the vote is for.

    Anybody can check it: the key's SHA-256 is the node id (see `p2pfl.proofs`).
    """

    node: NodeId
    journal: JournalId
    votes: Count
    """Number of votes that this journal had cast, including this one. It never decreases."""
    key: PublicKey
    signature: Signature

    @property
    def member(self) -> Member:
        """Who voted."""
        return Member(self.node, self.journal)


class RosterEntry(Struct, frozen=True):
    """One member of a roster, with the slot that selects its data partition and that it keeps."""

    node: NodeId
    journal: JournalId
    name: Name
    slot: Annotated[int, Meta(ge=0, lt=2**16)]
    examples: SomeExamples
    """Examples stated by its data card when it joined the roster. None of its updates may count more
    examples."""

    @property
    def member(self) -> Member:
        """The entry as a `Member`."""
        return Member(self.node, self.journal)


Roster = Annotated[tuple[RosterEntry, ...], Meta(min_length=1, max_length=MAX_ROSTER)]


class Origin(Struct, frozen=True):
    """The record of another run from which a run continues, by an operator's decision."""

    run: Digest
    round: Annotated[int, Meta(ge=1, le=2**31)]
    record: Digest
    """Digest of the record of that round of that run."""
    trained: Rounds
    """Training rounds up to and including that record. The new run continues this count."""


class RecordBlobs(Struct, frozen=True, omit_defaults=True):
    """The blobs of a record by role; the run's spec determines the roles (`record_roles`)."""

    model: Digest
    state: DigestOrEmpty = ""
    """The state of the strategy; omitted from the encoding if the strategy has none."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that are filled."""
        return ("model", "state") if self.state else ("model",)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of these blobs, the model's first."""
        return (self.model, self.state) if self.state else (self.model,)


class UpdateBlobs(Struct, frozen=True, omit_defaults=True):
    """The blobs of an update by role; the run's spec determines the roles (`update_roles`)."""

    update: Digest
    control: DigestOrEmpty = ""
    """A further blob of the strategy, such as a control variate; omitted from the encoding if it has none."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that are filled."""
        return ("update", "control") if self.control else ("update",)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of these blobs, the update's first."""
        return (self.update, self.control) if self.control else (self.update,)


class Provenance(Struct, frozen=True):
    """The origin of a run's first model. `Genesis` also names its task and the runs that it continues."""

    software: Software
    """Version of p2pfl on the device that founded the run. Untrusted text."""
    model: Literal["initialised", "continued"]
    """"initialised": made from the seed; "continued": the last model of the last run in
    `Genesis.continues`."""


class Genesis(Struct, frozen=True, omit_defaults=True):
    """Record 0: founds a run. Its digest is the run id."""

    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    spec: RunSpec
    agreement: Agreement
    """What the data of all members have in common; the data of a node that joins later must fit it."""
    roster: Roster
    layout: Layout
    """Layout of the run's model files. The layout of other blobs follows from the model's schema and the
    spec."""
    blobs: RecordBlobs
    provenance: Provenance
    continues: Annotated[tuple[Origin, ...], Meta(max_length=MAX_ORIGINS)] = ()
    """The runs without a majority that this run continues, the latest last (rule "Continuing without the
    majority"). Left out of the encoding where it is empty."""

    @property
    def model(self) -> str:
        """The digest of the first model."""
        return self.blobs.model

    @property
    def trained(self) -> int:
        """Number of training rounds that led to `model`."""
        return self.continues[-1].trained if self.continues else 0

    def origin_in(self, run: str) -> Origin | None:
        """Return the origin of this run in *run*, or None if it does not continue *run*."""
        return next((origin for origin in self.continues if origin.run == run), None)


class ClassCount(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a model classified the examples of one class."""

    right: Count
    """Examples of the class that were predicted to be of it."""
    examples: Count
    """Examples of the class."""
    predicted: Count
    """Examples of any class that were predicted to be of it."""


class Evaluation(Struct, frozen=True, omit_defaults=True):
    """The evaluation of a model on one member's held-out data, as sums over the examples."""

    examples: Annotated[int, Meta(ge=1, le=2**53)]
    sums: Annotated[dict[MetricName, Number], Meta(min_length=1, max_length=MAX_SUMS)]
    """Sum by metric, in the order of names, so that equal evaluations have equal encodings. The mean of a
    metric is its sum divided by `examples`. For "loss" it is the summed loss, for "accuracy" the number of
    correct examples."""
    classes: Annotated[tuple[ClassCount, ...], Meta(max_length=MAX_COUNTED_CLASSES)] = ()
    """Counts by class, in the order of the agreement; empty where the run does not count classes
    (`p2pfl.cards.counted_classes`)."""

    def __post_init__(self) -> None:
        if list(self.sums) != sorted(self.sums):
            raise ValueError("the sums of an evaluation are not in the order of their names")

    @property
    def names(self) -> tuple[str, ...]:
        """The sums that were measured, sorted."""
        return tuple(self.sums)

    def as_one_example(self) -> Evaluation:
        """Return an evaluation with the same means that does not tell the number of examples."""
        return Evaluation(1, {name: value / self.examples for name, value in self.sums.items()})

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name: the mean of each sum, and those derived from several sums.

        "f1" is the mean of the F1 scores of the classes that occur (macro F1). "r2" is the coefficient of
        determination; it takes the place of the sums "target" and "target_square".
        """
        means = {name: value / self.examples for name, value in self.sums.items()}
        if self.classes:
            means["f1"] = _macro_f1(self.classes)
        if means.keys() >= R2_SUMS:
            mean, square = means.pop("target"), means.pop("target_square")
            variance = square - mean * mean
            means["r2"] = 1.0 - means["loss"] / variance if variance > 1e-12 else 0.0
        return dict(sorted(means.items()))


def add_evaluations(evaluations: Iterable[Evaluation]) -> Evaluation:
    """Add *evaluations* (at least one) that have the same metrics, over disjoint examples."""
    parts = tuple(evaluations)
    names = parts[0].names
    return Evaluation(
        sum(part.examples for part in parts),
        {name: sum(part.sums.get(name, 0.0) for part in parts) for name in names},
        tuple(
            ClassCount(
                sum(one.right for one in counts),
                sum(one.examples for one in counts),
                sum(one.predicted for one in counts),
            )
            for counts in zip(*(part.classes for part in parts), strict=False)
        ),
    )


def _macro_f1(classes: Iterable[ClassCount]) -> float:
    """Return the mean F1 score of the classes that occur: 2 right / (examples + predicted)."""
    scores = [
        2 * one.right / (one.examples + one.predicted) for one in classes if one.examples or one.predicted
    ]
    return sum(scores) / len(scores) if scores else 0.0


class MemberEvaluation(Struct, frozen=True):
    """An evaluation of the parent model, as a record holds it."""

    node: NodeId
    evaluation: Evaluation


class UpdateEntry(Struct, frozen=True, omit_defaults=True):
    """One update in a record's manifest."""

    node: NodeId
    journal: JournalId
    blobs: UpdateBlobs
    examples: SomeExamples
    """Number of examples it was trained on, which is its weight in the aggregation."""
    steps: Annotated[int, Meta(ge=1, le=2**53)]
    """Number of optimizer steps of the training."""
    loss: Number
    """Mean training loss over the last local epoch."""
    seconds: Seconds
    """Duration of the training."""
    planned: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Steps that the training was to take, if the deadline cut it; 0, and omitted: it took all."""

    @property
    def digest(self) -> str:
        """The digest of the update itself."""
        return self.blobs.update


LEAVING = "it is leaving"
NOT_IN_RUN = "it is not in this run"
NOT_REACHABLE = "it was not reachable"
ABSENT = (LEAVING, NOT_IN_RUN, NOT_REACHABLE)
"""Reasons for leaving out a member that is absent; a member that is here has others."""


class LeftOut(Struct, frozen=True):
    """A member selected for the round whose update is not in the manifest, and why."""

    node: NodeId
    reason: Reason


class Record(Struct, frozen=True):
    """The result of a round. Members vote on its digest."""

    run: Digest
    round: Annotated[int, Meta(ge=1, le=2**31)]
    previous: Digest
    """Digest of the record of `round - 1` (of record 0: the run id)."""
    kind: Literal["train", "evaluate"]
    """"evaluate" closes a run without training: it repeats the parent's model and holds its evaluations."""
    trained: Round
    """Number of rounds of kind "train" up to and including this one."""
    rounds: Round
    """Training rounds that the run is to have; more than `RunSpec.rounds` after an extension."""
    ballot: Ballot
    """The ballot in which this record was first proposed; an aggregator that adopts the record keeps it."""
    blobs: RecordBlobs
    updates: Annotated[tuple[UpdateEntry, ...], Meta(max_length=MAX_ROSTER)]
    left_out: Annotated[tuple[LeftOut, ...], Meta(max_length=MAX_ROSTER)]
    evaluations: Annotated[tuple[MemberEvaluation, ...], Meta(max_length=MAX_ROSTER)]
    """Evaluations of the parent model by the members that reported one."""
    roster: Roster
    """The members that vote in `round + 1`."""
    then: Literal["go", "pause", "end"]
    note: Reason
    """Why the round is empty, pauses or ends the run, or which members joined and left; may be empty."""

    @property
    def model(self) -> str:
        """The digest of the model."""
        return self.blobs.model


# --- messages, in the order a run needs them ----------------------------------------------------------------


class GivenOption(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An option of the run that an operator gave, and its value, for comparison and for people."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z_]{0,31}\Z")]
    value: Annotated[str, Meta(max_length=MAX_OPTION_TEXT)]
    """Untrusted text. A longer value ends in a digest of all of it."""


class Status(Struct, frozen=True, tag="status"):
    """The state of a node: sent on every new link, after a change, and as heartbeat."""

    run: DigestOrEmpty
    """The run this node is in; empty when in none."""
    round: Round
    """The last round whose commit it knows."""
    record: DigestOrEmpty
    """That round's record."""
    holds: bool
    """Whether that record's blobs are durable here."""
    ended: bool
    """Whether that record ends the run and its blobs are durable."""
    rounds: Rounds
    """Training rounds that its run is to have, as far as this node knows; this propagates an extension."""
    resumed: bool
    """Whether the pause after `round` was lifted."""
    phase: Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]
    progress: Annotated[float, Meta(ge=0, le=1)]
    """Completed share of this round's local training."""
    predicted: Seconds
    """Estimated duration of the whole local training; 0 if unknown."""
    links: Count
    """Number of members it is linked to: candidates with more links run for election first."""
    ready: bool
    """Whether its worker can train (it loads torch after the node is reachable)."""
    min_nodes: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    """Number of nodes that it requires before a run is founded."""
    waiting: bool
    """Whether its operator delays the start of a run (`--wait`)."""
    given: Annotated[tuple[GivenOption, ...], Meta(max_length=MAX_GIVEN)]
    """The options of the run that its operator gave; empty in a run."""
    choice: Annotated[int, Meta(ge=0, le=MAX_CHOICE)]
    """Number of the last decision that its options hold (`p2pfl start`): one more than the highest that it
    knew. 0: nobody decided for it, or it is in a run."""
    complete: bool
    """Whether it is in no run and linked with all the devices that it waits for."""
    steps: Count
    """Number of state changes before this status, so a receiver can drop an older status."""


class Offer(Struct, frozen=True, tag="offer"):
    """Record 0, sent by any node that holds it to the members of its roster."""

    genesis: Genesis


class Prepare(Struct, frozen=True, tag="prepare"):
    """Run for aggregator of *round* (Paxos phase 1a)."""

    run: Digest
    round: Round
    ballot: Ballot


class Promise(Struct, frozen=True, tag="promise"):
    """Vote for a candidate (Paxos phase 1b), naming the record that the sender has accepted in the round."""

    run: Digest
    round: Round
    ballot: Ballot
    accepted_ballot: Ballot | None
    accepted: Record | None
    vote: SignedVote


class Refuse(Struct, frozen=True, tag="refuse"):
    """Reject a ballot that is lower than *promised*."""

    run: Digest
    round: Round
    ballot: Ballot
    promised: Ballot


class Collect(Struct, frozen=True, tag="collect"):
    """Ask a member to submit its update of this round to the sender, which this ballot elected."""

    run: Digest
    round: Round
    ballot: Ballot
    selected: bool
    """False if the receiver is not selected to train; then only its evaluation is wanted."""


class Submit(Struct, frozen=True, tag="submit"):
    """Announce an update, or, in the closing round, only an evaluation."""

    run: Digest
    round: Round
    ballot: Ballot
    """The ballot of the COLLECT that this answers."""
    previous: Digest
    """The record this update was trained from."""
    update: UpdateEntry | None
    declined: Reason
    """Why there is no update although one is wanted; empty otherwise."""
    evaluation: Evaluation | None
    """Evaluation of the parent model."""


class Ack(Struct, frozen=True, tag="ack"):
    """Answer to Submit: the update is received, checked and counted, or it is refused with a reason."""

    run: Digest
    round: Round
    ballot: Ballot
    refused: Reason
    """Empty when the update is counted."""


class Accept(Struct, frozen=True, tag="accept"):
    """Propose *record* as the round's result (phase 2a)."""

    run: Digest
    round: Round
    ballot: Ballot
    record: Record


class Accepted(Struct, frozen=True, tag="accepted"):
    """Accept the record of this ballot: it and every blob it names are durable at the sender (phase 2b)."""

    run: Digest
    round: Round
    ballot: Ballot
    record: Digest
    vote: SignedVote


class Undelivered(Struct, frozen=True, tag="undelivered"):
    """Report that the sender can pull the model of this ballot's record from no node, so does not accept."""

    run: Digest
    round: Round
    ballot: Ballot
    reason: Reason


class StepDown(Struct, frozen=True, tag="step_down"):
    """The candidate or aggregator of this ballot gives it up."""

    run: Digest
    round: Round
    ballot: Ballot
    reason: Reason


class Commit(Struct, frozen=True, tag="commit"):
    """A record with the proof that a quorum accepted it in *ballot*."""

    record: Record
    ballot: Ballot
    acceptors: Annotated[tuple[SignedVote, ...], Meta(max_length=MAX_ROSTER)]
    """The signed acceptances; anybody who has the roster can verify them at any later time."""


class Report(Struct, frozen=True, tag="report"):
    """The sender's evaluation of the committed model of *round*, for display; it is not a vote."""

    run: Digest
    round: Round
    evaluation: Evaluation


class RecordsRequest(Struct, frozen=True, tag="records_request"):
    """Request the records of *run* after round *after*; with `after` = -1 record 0 as well."""

    run: Digest
    after: Annotated[int, Meta(ge=-1, le=2**31)]


class Records(Struct, frozen=True, tag="records"):
    """Committed records in order, as many as fit."""

    run: Digest
    genesis: Genesis | None
    commits: tuple[Commit, ...]


class Decline(Struct, frozen=True, tag="decline"):
    """The sender cannot take part in *run*, for example because its schema differs or it lacks the task."""

    run: Digest
    reason: Reason


class ControlRequest(Struct, frozen=True, tag="control_request"):
    """A request to pause, resume or end the run with the next commit, relayed to all members.

    The user of a member's device, or an operator that it has authorised, gives the request to the member,
    which signs it. So all members know where a request was given, and no node can forge one of another node.
    "end-now" closes the round with the updates so far.
    """

    run: Digest
    round: Round
    """For "resume", the paused round; otherwise the last committed round at the time of the request."""
    what: Literal["pause", "resume", "end", "end-now"]
    by: Annotated[str, Meta(max_length=100)]
    """Who made the request, according to `node`; for display. Untrusted text."""
    node: NodeId
    """The node that received the request from its user or operator."""
    key: PublicKey
    signature: Signature


class Card(Struct, frozen=True, tag="card"):
    """The sender's data card, sent as soon as its worker has described the data.

    The founder of a run merges the cards of all members into the agreement. A learner becomes a member only
    if its card fits the agreement.
    """

    card: DataCard


class DeviceInfo(Struct, frozen=True, tag="device_info"):
    """Description of a device and its training data, for display only."""

    software: Software
    """Version of p2pfl. Untrusted text, as the next one."""
    system: Annotated[str, Meta(max_length=64)]
    cores: Count
    memory: Count
    """Bytes of main memory."""
    device: Annotated[str, Meta(max_length=64)]
    """Where it trains; empty until its worker is ready. Untrusted text."""
    part: DataCard | None
    """The data partition that it trains on in this run; None until it has trained."""


Message = (
    Status
    | Offer
    | Prepare
    | Promise
    | Refuse
    | Collect
    | Submit
    | Ack
    | Accept
    | Accepted
    | Undelivered
    | StepDown
    | Commit
    | Report
    | RecordsRequest
    | Records
    | Decline
    | ControlRequest
    | Card
    | DeviceInfo
)
"""Every message on a control link, besides the link's own frames (`p2pfl.wire.links`)."""

_encode = msgspec.msgpack.Encoder().encode


def record_digest(record: Record | Genesis) -> Digest:
    """Return the digest of *record*: BLAKE3 of its MessagePack encoding."""
    return blake3(_encode(record)).hexdigest()


def quorum(size: int) -> int:
    """Return the size of a majority of a roster of *size*."""
    return size // 2 + 1
