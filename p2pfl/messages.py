"""What nodes say to each other about a run: digests and decisions, never tensors.

Every message is a frozen, tagged struct; msgspec checks types while decoding and refuses unknown fields.
Bounds that types cannot express (a round is not negative, a name has a length) are `Annotated` here, so that
no handler sees a value it would have to doubt. Link-level frames (HELLO, WELCOME, PING, address exchange)
live in `p2pfl.wire`; what a message makes a node do lives in `p2pfl.core`.

Digests are lower-case hex BLAKE3 (64 characters). A record's digest is taken over its MessagePack encoding
with the fields in the order written here; `record_digest` is the only place that computes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta

from p2pfl.schema import Layout

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""Hex BLAKE3 of a blob or a record. (In these patterns `$` would let a newline follow; `\\Z` does not.)"""

DigestOrEmpty = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""The same, or "" where there is none. (msgspec holds a pattern against every string of a union,
`Literal[""]` included.)"""

NodeId = Annotated[str, Meta(pattern=r"^[a-z2-7]{52}\Z")]
"""Lower-case base32 of SHA-256 of a node's public key (SPKI), without padding."""

JournalId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""16 random bytes in hex, made with a data directory."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
"""A device's name, from its certificate. Untrusted text: printers escape it."""

Reason = Annotated[str, Meta(max_length=300)]
"""Half a sentence for people. Untrusted text."""

Round = Annotated[int, Meta(ge=0, le=2**31)]
Rounds = Annotated[int, Meta(ge=0, le=2**30)]
"""Rounds a run is to train, or has behind it at its start: half of what a record can hold, so that no device
comes to a number it may not write, whatever it was told."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A finite float: NaN and the infinities satisfy neither bound."""

PublicKey = Annotated[bytes, Meta(min_length=1, max_length=256)]
"""DER of a SubjectPublicKeyInfo; of a key on P-256 it has 91 bytes."""

Signature = Annotated[bytes, Meta(min_length=1, max_length=128)]
"""ECDSA on P-256 with SHA-256, in DER: at most 72 bytes."""

MAX_ROSTER = 256
"""Members of a roster. A record of 256 members takes about 100 KB; a control frame holds 1 MiB."""

MAX_LABELS = 1000
"""Labels whose counts are told: ImageNet has as many."""

MAX_ATTEMPT = 2**31
"""The highest attempt of a ballot. A member that stands every tenth of a second needs seven years for it."""

MAX_ORIGINS = 64
"""Times a run can be continued after losing its majority, each by an operator's hand."""


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Common settings of everything that crosses the wire."""


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True, forbid_unknown_fields=True):
    """`(attempt, node id)`, totally ordered: one ballot has one proposer and never two values."""

    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    node: NodeId


class Member(msgspec.Struct, frozen=True, order=True, array_like=True, forbid_unknown_fields=True):
    """Who votes: a node together with the data directory that keeps its promises."""

    node: NodeId
    journal: JournalId


class SignedVote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's vote, signed with its certificate's key; what it votes for is said by what holds it.

    Anybody can check it: the key's SHA-256 is the node id (see `p2pfl.proofs`).
    """

    node: NodeId
    journal: JournalId
    votes: Count
    """How many votes this journal had cast then, this one included: it never shows fewer again."""
    key: PublicKey
    signature: Signature

    @property
    def member(self) -> Member:
        """Who voted."""
        return Member(self.node, self.journal)


class RosterEntry(Struct, frozen=True):
    """One member of a roster, with the data slot it keeps for as long as it stays."""

    node: NodeId
    journal: JournalId
    name: Name
    slot: Annotated[int, Meta(ge=0, lt=2**16)]

    @property
    def member(self) -> Member:
        """The voting pair."""
        return Member(self.node, self.journal)


Roster = Annotated[tuple[RosterEntry, ...], Meta(min_length=1, max_length=MAX_ROSTER)]


class RunSpec(Struct, frozen=True):
    """The training all members agreed on; part of record 0 and so of the run's id."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    model: Annotated[str, Meta(min_length=1, max_length=64)]
    partition: Annotated[str, Meta(min_length=1, max_length=64)]
    partitions: Annotated[int, Meta(ge=1, le=2**16)]
    """Into how many parts the task's data are divided; a slot trains on part `slot % partitions`."""
    rounds: Annotated[int, Meta(ge=1, le=2**30)]
    """Rounds of training. The evaluation record that closes the run is not counted."""
    epochs: Annotated[int, Meta(ge=1, le=10**6)]
    """Local epochs in a round (E in McMahan et al. 2017)."""
    batch_size: Annotated[int, Meta(ge=1, le=10**7)]
    """Local batch size (B in McMahan et al. 2017)."""
    learning_rate: Annotated[float, Meta(gt=0, le=1e6)]
    momentum: Annotated[float, Meta(ge=0, lt=1)]
    weight_decay: Annotated[float, Meta(ge=0, le=1e6)]
    strategy: Literal["fedavg"]
    seed: Annotated[int, Meta(ge=0, le=2**53)]
    sample: Annotated[int, Meta(ge=0, le=MAX_ROSTER)]
    """Members selected to train in a round; 0 selects all."""
    min_updates: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    """Updates that suffice once the straggler deadline has passed."""
    round_cap: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds after which a round closes with what is there, however slow its members promise to be."""
    drop_after: Annotated[float, Meta(gt=0, le=1e9)]
    """Seconds of absence after which a member may be dropped from the roster."""


class Origin(Struct, frozen=True):
    """The record of another run that a run continues from: an operator's decision, not a vote."""

    run: Digest
    round: Annotated[int, Meta(ge=1, le=2**31)]
    record: Digest
    """Of that round of that run."""
    trained: Rounds
    """Rounds of training up to and including it: the new run counts on from there."""


class Genesis(Struct, frozen=True, omit_defaults=True):
    """Record 0: founds a run. Its digest is the run id."""

    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    spec: RunSpec
    roster: Roster
    layout: Layout
    """Of all its model files."""
    model: Digest
    max_samples: Annotated[int, Meta(ge=1, le=2**53)]
    """More samples than this no member can hold: a larger count in an update is refused."""
    continues: Annotated[tuple[Origin, ...], Meta(max_length=MAX_ORIGINS)] = ()
    """Where the run comes from if it continues others that lost their majority, the nearest last (rule 14).
    Left out of the encoding where it is empty."""

    @property
    def trained(self) -> int:
        """Rounds of training that lie behind `model`."""
        return self.continues[-1].trained if self.continues else 0

    def origin_in(self, run: str) -> Origin | None:
        """Return where this run left *run*, which it continues; None when it does not."""
        return next((origin for origin in self.continues if origin.run == run), None)


class Evaluation(Struct, frozen=True):
    """How well a committed model did on one member's held-out data."""

    correct: Count
    total: Annotated[int, Meta(ge=1, le=2**53)]
    loss: Annotated[float, Meta(ge=0, le=1e300)]
    """Cross-entropy summed over `total` samples."""


class MemberEvaluation(Struct, frozen=True):
    """An evaluation of the parent model, as a record holds it."""

    node: NodeId
    evaluation: Evaluation


class UpdateEntry(Struct, frozen=True):
    """One update in a record's manifest."""

    node: NodeId
    journal: JournalId
    digest: Digest
    samples: Annotated[int, Meta(ge=1, le=2**53)]
    loss: Number
    """Mean training loss over the last local epoch."""
    seconds: Seconds
    """What the training took."""


class LeftOut(Struct, frozen=True):
    """A member selected for the round whose update is not in the manifest, and why."""

    node: NodeId
    reason: Reason


class Record(Struct, frozen=True):
    """What a round decides. Its digest is what members vote on."""

    run: Digest
    round: Annotated[int, Meta(ge=1, le=2**31)]
    previous: Digest
    """Digest of the record of `round - 1` (of record 0: the run id)."""
    kind: Literal["train", "evaluate"]
    """"evaluate" closes a run: no training, the parent's model, the last evaluations."""
    trained: Round
    """Rounds of kind "train" up to and including this one."""
    rounds: Round
    """The rounds the run is to train; above `RunSpec.rounds` once it was extended."""
    ballot: Ballot
    """The ballot in which this value was first proposed; an adopter keeps it."""
    model: Digest
    updates: Annotated[tuple[UpdateEntry, ...], Meta(max_length=MAX_ROSTER)]
    left_out: Annotated[tuple[LeftOut, ...], Meta(max_length=MAX_ROSTER)]
    evaluations: Annotated[tuple[MemberEvaluation, ...], Meta(max_length=MAX_ROSTER)]
    """Of the parent model, by the members that reported."""
    roster: Roster
    """The members that vote in `round + 1`."""
    then: Literal["go", "pause", "end"]
    note: Reason
    """Why the round is empty, paused or ended, or who joined and left; may be empty."""


# --- messages, in the order a run needs them ----------------------------------------------------------------


class Status(Struct, frozen=True, tag="status"):
    """Where a node stands: sent on every new link, on change and as heartbeat; never an answer by itself."""

    run: DigestOrEmpty
    """The run this node is in; empty when in none."""
    round: Round
    """The last round it knows the commit of."""
    record: DigestOrEmpty
    """That round's record."""
    holds: bool
    """Whether that record's blobs are durable here."""
    ended: bool
    """Whether that record ends the run, with its blobs durable: FINAL in the design's words."""
    rounds: Rounds
    """The rounds its run is to train, as far as this node knows (an extension spreads this way)."""
    resumed: bool
    """Whether the pause after `round` was lifted."""
    phase: Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]
    progress: Annotated[float, Meta(ge=0, le=1)]
    """Share of this round's local training that is done."""
    predicted: Seconds
    """What the whole local training will take by this node's own estimate; 0 is unknown."""
    links: Count
    """How many members it is linked to: candidates with more stand first."""
    ready: bool
    """Whether its worker can train (it loads torch after the node is reachable)."""
    min_nodes: Annotated[int, Meta(ge=1, le=MAX_ROSTER)]
    """How many nodes it wants before a run is founded."""
    waiting: bool
    """Whether its operator holds the start."""
    steps: Count
    """How many state changes lie behind this status; lets a receiver drop older ones."""


class Offer(Struct, frozen=True, tag="offer"):
    """Record 0, from whoever holds it to the members of its roster."""

    genesis: Genesis


class Prepare(Struct, frozen=True, tag="prepare"):
    """Stand as aggregator of *round* (Paxos phase 1a)."""

    run: Digest
    round: Round
    ballot: Ballot


class Promise(Struct, frozen=True, tag="promise"):
    """Vote for a candidate (phase 1b), naming the value accepted in this round so far."""

    run: Digest
    round: Round
    ballot: Ballot
    accepted_ballot: Ballot | None
    accepted: Record | None
    vote: SignedVote


class Refuse(Struct, frozen=True, tag="refuse"):
    """A ballot was too low; *promised* is the one it lost against."""

    run: Digest
    round: Round
    ballot: Ballot
    promised: Ballot


class Collect(Struct, frozen=True, tag="collect"):
    """I am elected in this ballot: announce your update of this round to me."""

    run: Digest
    round: Round
    ballot: Ballot
    selected: bool
    """False: you are not among the sampled members; only your evaluation is wanted."""


class Submit(Struct, frozen=True, tag="submit"):
    """Announce an update, or, in the closing round, only an evaluation."""

    run: Digest
    round: Round
    ballot: Ballot
    """The elected ballot this answers."""
    previous: Digest
    """The record this update was trained from."""
    update: UpdateEntry | None
    declined: Reason
    """Why there is no update although one was wanted; empty otherwise."""
    evaluation: Evaluation | None
    """Of the parent model."""


class Ack(Struct, frozen=True, tag="ack"):
    """Answer to Submit: the update is here, checked and counted, or refused with a reason."""

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
    """The record of this ballot, with every blob it names, is durable here (phase 2b)."""

    run: Digest
    round: Round
    ballot: Ballot
    record: Digest
    vote: SignedVote


class Undelivered(Struct, frozen=True, tag="undelivered"):
    """The model of this ballot's record cannot be had here, from anybody: no acceptance, for this reason."""

    run: Digest
    round: Round
    ballot: Ballot
    reason: Reason


class StepDown(Struct, frozen=True, tag="step_down"):
    """The aggregator of this ballot gives it up."""

    run: Digest
    round: Round
    ballot: Ballot
    reason: Reason


class Commit(Struct, frozen=True, tag="commit"):
    """A record with the proof that a quorum accepted it in *ballot*."""

    record: Record
    ballot: Ballot
    acceptors: Annotated[tuple[SignedVote, ...], Meta(max_length=MAX_ROSTER)]
    """The acceptances: whoever has the roster can check them, also years later."""


class Report(Struct, frozen=True, tag="report"):
    """How the committed model of *round* did here; for everybody's screen, not a vote."""

    run: Digest
    round: Round
    evaluation: Evaluation


class RecordsRequest(Struct, frozen=True, tag="records_request"):
    """Send me the records of *run* after round *after*; with `after` = -1 record 0 as well."""

    run: Digest
    after: Annotated[int, Meta(ge=-1, le=2**31)]


class Records(Struct, frozen=True, tag="records"):
    """Committed records in order, as many as fit."""

    run: Digest
    genesis: Genesis | None
    commits: tuple[Commit, ...]


class Decline(Struct, frozen=True, tag="decline"):
    """I cannot take part in *run*: another schema, a task I do not have."""

    run: Digest
    reason: Reason


class ControlRequest(Struct, frozen=True, tag="control_request"):
    """A wish for the run, relayed to everybody: pause or end with the next commit, or go on.

    It is given at a member, by the user of its device or an operator whom it has let in, and signed by that
    member: so everybody sees at whose device it was given, and nobody can give one in another's name.
    With "end-now" nobody trains for that commit any more: it closes the round with the updates there are.
    """

    run: Digest
    round: Round
    """For "resume": the paused round. Otherwise the last committed one when it was uttered."""
    what: Literal["pause", "resume", "end", "end-now"]
    by: Annotated[str, Meta(max_length=100)]
    """Who uttered it, for people: the word of the node it was given at. Untrusted text."""
    node: NodeId
    """Where it was given."""
    key: PublicKey
    signature: Signature


class DeviceInfo(Struct, frozen=True, tag="device_info"):
    """What kind of device this is and what data it trains on: for screens, nothing is decided by it."""

    software: Annotated[str, Meta(max_length=64)]
    """Version of p2pfl. Untrusted text, as the next one."""
    system: Annotated[str, Meta(max_length=64)]
    cores: Count
    memory: Count
    """Bytes of main memory."""
    device: Annotated[str, Meta(max_length=64)]
    """Where it trains; empty until its worker is ready. Untrusted text."""
    samples: Count
    """Training samples of its data part; 0 until it trained."""
    labels: Annotated[tuple[Count, ...], Meta(max_length=MAX_LABELS)]
    """Of those, how many of each label; empty until it trained."""


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
    | DeviceInfo
)
"""Everything that may follow HELLO and WELCOME on a control link, besides the link's own frames."""

_encode = msgspec.msgpack.Encoder().encode


def record_digest(record: Record | Genesis) -> Digest:
    """Return the digest of *record*: BLAKE3 of its MessagePack encoding."""
    return blake3(_encode(record)).hexdigest()


def quorum(size: int) -> int:
    """Return how many members of a roster of *size* are a majority of it."""
    return size // 2 + 1
