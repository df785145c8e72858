"""What a node tells its observers: the log, the history, the screen.

A closed union of frozen structs, tagged by `event`. Events carry values, not sentences: `p2pfl.cli` renders
them for people, `--events FILE` writes them as JSON lines, `p2pfl.core` and the drivers make them. The time
(seconds since the epoch) and the sequence number are added by the driver when it publishes an event
(`Published`), since the protocol reads no clock. `RoundRow` is what is told of rounds that lie behind.

Names are peers' own words: untrusted text, escaped by whoever prints it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.messages import RunSpec


class Event(msgspec.Struct, frozen=True, tag_field="event", omit_defaults=False):
    """Base of all events."""


# --- this device --------------------------------------------------------------------------------------------


class Started(Event, frozen=True, tag="started"):
    """The node listens and can be reached."""

    name: str
    node: str
    federation: str
    address: str
    data_dir: str
    seconds: float
    """From process start to reachable."""


class WorkerReady(Event, frozen=True, tag="worker_ready"):
    """The worker has loaded its task and can train."""

    task: str
    device: str
    samples: int
    parameters: int
    seconds: float


class WorkerFailed(Event, frozen=True, tag="worker_failed"):
    """The worker process ended or hung and is started again."""

    reason: str


class ProgressMade(Event, frozen=True, tag="progress_made"):
    """Local training or a transfer moved on. Frequent; for live displays, not for logs."""

    round: int
    what: Literal["train", "pull", "push"]
    done: int
    """Batches of the training, or bytes of the transfer."""
    total: int
    peer: str = ""


class Notice(Event, frozen=True, tag="notice"):
    """A sentence for the person at this device that fits no other event."""

    level: Literal["info", "warning", "error"]
    text: str


class Ended(Event, frozen=True, tag="ended"):
    """The node is about to exit."""

    code: int
    reason: str


class Commanded(Event, frozen=True, tag="commanded"):
    """Somebody gave this node a command, and what came of it."""

    who: str
    """Name and role of who gave it."""
    what: str
    refused: str
    """Why it was not done; empty when it was."""


class LinkMeasure(msgspec.Struct, frozen=True):
    """One peer's part in `Measured`."""

    node: str
    rtt: float | None
    """Seconds from the last ping to its answer; None before the first answer."""
    sent: int
    """Bytes since this node's start, on all connections with the peer."""
    received: int


class Measured(Event, frozen=True, tag="measured"):
    """What this node and its links did lately, by its own counters: each second while somebody watches."""

    cpu: float
    """Processor time of node and worker over the last interval, in processors (1.0 is one busy core)."""
    memory: int
    """Resident bytes of node and worker."""
    links: tuple[LinkMeasure, ...]


# --- peers --------------------------------------------------------------------------------------------------


class PeerLinked(Event, frozen=True, tag="peer_linked"):
    """A peer passed TLS and HELLO."""

    node: str
    name: str
    address: str


class PeerLost(Event, frozen=True, tag="peer_lost"):
    """The link to a peer ended."""

    node: str
    name: str
    reason: str


class PeerRefused(Event, frozen=True, tag="peer_refused"):
    """A connection was refused, by us or by the other side; the reason says which and why."""

    address: str
    reason: str


class AddressFailed(Event, frozen=True, tag="address_failed"):
    """A listed address leads nowhere, or does so for another reason than before, or leads to a node again."""

    address: str
    """As the operator wrote it."""
    reason: str
    """Empty when a node was reached there."""
    is_refused: bool
    """Whether one side refused the other: then `PeerRefused` tells it too."""


class PeerLeaving(Event, frozen=True, tag="peer_leaving"):
    """A member asked to be dropped from the roster with the next commit."""

    node: str
    name: str


class PeerDeviceInfo(Event, frozen=True, tag="peer_device_info"):
    """What kind of device a node runs on and what data it trains on; of this node too."""

    node: str
    name: str
    software: str
    """Version of p2pfl."""
    system: str
    """Operating system and processor, as "Linux x86_64"."""
    cores: int
    memory: int
    """Bytes of main memory."""
    device: str
    """Where it trains, as "cpu" or "cuda"; empty until its worker is ready."""
    samples: int
    """Training samples of its data part; 0 until it trained."""
    labels: tuple[int, ...]
    """Of those, how many of each label; empty until it trained."""


class PeerStatus(Event, frozen=True, tag="peer_status"):
    """What a node said of itself last; of this node too. Some a second at most, while somebody watches."""

    node: str
    name: str
    run: str
    """Empty while it is in none."""
    round: int
    """The last round it knows the commit of."""
    holds: bool
    """Whether it has that round's model on disk."""
    phase: Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]
    progress: float
    """Share of the round's local training that is done, from 0 to 1."""
    predicted: float
    """Seconds its whole local training will take by its own estimate; 0 is unknown."""
    links: int
    """Members it is linked to."""
    is_member: bool
    """Whether it is in the roster."""
    ended: bool
    """Whether it has the final model."""


# --- the run ------------------------------------------------------------------------------------------------


class Waiting(Event, frozen=True, tag="waiting"):
    """No run yet: who is here, how many are wanted, and what is missing."""

    present: int
    needed: int
    reason: str


class RunJoined(Event, frozen=True, tag="run_joined"):
    """The node is in a run: founded it, took its record 0, resumed it, or follows it as a learner."""

    run: str
    how: Literal["founded", "joined", "resumed", "learner", "finished", "continued"]
    """"continued": as a member of a run that continues the one it was in before."""
    round: int
    spec: RunSpec
    """The run's, but with the rounds it is to train now, extensions included."""
    members: tuple[str, ...]
    model: str = ""
    trained: int | None = None
    """Rounds of training up to and including `round`; None where nobody said."""


class RunExtended(Event, frozen=True, tag="run_extended"):
    """A finished run goes on: somebody wants more rounds."""

    rounds: int
    """Rounds of training the run is to have now."""
    by: str
    """The name of the node that was started with them."""


class CaughtUp(Event, frozen=True, tag="caught_up"):
    """The node has taken committed records that it had missed."""

    first: int
    """Number of the first training round among them."""
    last: int
    rounds: int
    """Rounds of training the run is to have."""
    source: str
    """The name of the node they came from."""


class OptionsIgnored(Event, frozen=True, tag="options_ignored"):
    """Options of this device's command line that differ from the run's, which hold."""

    differences: tuple[str, ...]


class QuorumLost(Event, frozen=True, tag="quorum_lost"):
    """Too few members are reachable: nothing commits until more are."""

    round: int
    reachable: int
    members: int
    needed: int
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class QuorumBack(Event, frozen=True, tag="quorum_back"):
    """A quorum is reachable again."""

    round: int
    reachable: int
    members: int
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class DataShown(Event, frozen=True, tag="data_shown"):
    """How this node's share of the training data is distributed over the labels."""

    partition: int
    partitions: int
    labels: tuple[int, ...]
    """Samples of each label."""


class TrainingStarted(Event, frozen=True, tag="training_started"):
    """Local training for a round began."""

    round: int
    partition: int


class TrainingFinished(Event, frozen=True, tag="training_finished"):
    """The node has its own update of a round."""

    round: int
    digest: str
    samples: int
    loss: float
    seconds: float


class UpdateReused(Event, frozen=True, tag="update_reused"):
    """An update trained before a restart is offered again; nothing is retrained."""

    round: int
    digest: str


class ElectionStarted(Event, frozen=True, tag="election_started"):
    """The node stands as aggregator."""

    round: int
    attempt: int
    reason: str


class Elected(Event, frozen=True, tag="elected"):
    """A quorum elected an aggregator for this ballot."""

    round: int
    attempt: int
    aggregator: str
    node: str
    votes: int
    """Promises counted; 0 where this node only heard of it."""
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class UpdateCounted(Event, frozen=True, tag="update_counted"):
    """The node, as aggregator, folded an update in; or, as member, heard that its own was."""

    round: int
    name: str
    samples: int


class UpdateRefused(Event, frozen=True, tag="update_refused"):
    """An update is not counted, and why."""

    round: int
    name: str
    reason: str


class Proposed(Event, frozen=True, tag="proposed"):
    """The node, as aggregator, proposed the round's record."""

    round: int
    attempt: int
    digest: str
    updates: int
    adopted: bool
    """True: the value of an earlier ballot, which it found accepted."""


class RecordAccepted(Event, frozen=True, tag="record_accepted"):
    """The node durably accepted a proposed record."""

    round: int
    attempt: int
    aggregator: str
    digest: str


class SteppedDown(Event, frozen=True, tag="stepped_down"):
    """An aggregator gave its ballot up."""

    round: int
    attempt: int
    aggregator: str
    reason: str
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class ControlRequested(Event, frozen=True, tag="control_requested"):
    """An operator of the federation wants the run paused or ended; a round's commit will do it."""

    what: Literal["pause", "end", "end-now"]
    """"end-now": members hand in no update they have not trained yet, so that the round closes at once."""
    by: str
    """Who, and at which device; who it is, is that device's word."""


class Resumed(Event, frozen=True, tag="resumed"):
    """A paused run goes on."""

    round: int
    """The last one before the pause."""
    by: str
    """Who wanted it; only a device's name where this one just heard from it that the run goes on."""


class CountedUpdate(msgspec.Struct, frozen=True):
    """An update that a round's average was made of."""

    name: str
    samples: int
    """Its weight in the average."""
    loss: float
    """Mean training loss of its last local epoch."""
    seconds: float
    """What its training took."""


class MemberScore(msgspec.Struct, frozen=True):
    """How a committed model did on one member's held-out data."""

    name: str
    correct: int
    total: int
    loss: float
    """Cross-entropy summed over the `total` samples."""


class Committed(Event, frozen=True, tag="committed"):
    """A round is decided."""

    run: str
    round: int
    kind: Literal["train", "evaluate"]
    attempt: int
    aggregator: str
    digest: str
    """The model's."""
    record: str
    members: tuple[str, ...]
    """Names in the next roster."""
    updates: tuple[CountedUpdate, ...]
    left_out: tuple[tuple[str, str], ...]
    """Name and reason."""
    trained: int
    """Rounds of training up to and including this one."""
    rounds: int
    """Rounds of training the run is to have."""
    then: Literal["go", "pause", "end"]
    note: str
    seconds: float
    """Since this node's previous commit; 0 where it learned of the round only afterwards."""
    is_late: bool = False
    """Whether this node was told of the round while it caught up, some time after it was decided."""

    @property
    def contributors(self) -> tuple[str, ...]:
        """Names of those whose updates were counted."""
        return tuple(update.name for update in self.updates)


class RosterChanged(Event, frozen=True, tag="roster_changed"):
    """A commit changed who votes; says how many failures the new roster tolerates."""

    round: int
    joined: tuple[str, ...]
    left: tuple[str, ...]
    members: int
    tolerates: int


class EvaluationFinished(Event, frozen=True, tag="evaluation_finished"):
    """How the committed model of a round did, summed over the members that reported so far."""

    round: int
    accuracy: float
    loss: float
    samples: int
    reports: int
    members: int
    scores: tuple[MemberScore, ...] = ()
    """What it is summed from."""
    committed: bool = False
    """Whether these are the evaluations the next record committed: they never change any more. Those that are
    only reported may: a member can be gone before the record is made."""
    is_news: bool = True
    """False where committed evaluations are those that all members had reported, or of a missed round."""
    reported: float | None = None
    """The accuracy all members had reported before, where another one is committed."""


class RunEnded(Event, frozen=True, tag="run_ended"):
    """The run's last record is committed and its blobs are durable here."""

    run: str
    rounds: int
    """Rounds of training that are committed."""
    model: str
    accuracy: float | None
    """Of that model, as the last record committed it; None where nobody evaluated it."""
    loss: float | None
    planned: int = 0
    """Rounds of training the run was to have; 0 where nobody said."""
    is_trained: bool = True
    """False where no update was ever counted: the model is still the initial one."""


LogEvent = Notice | Commanded | OptionsIgnored | PeerRefused
"""Events that are only log lines: they change no state."""

LiveEvent = ProgressMade | Measured | PeerStatus | PeerDeviceInfo
"""Frequent events for live displays: each replaces the previous one of the same kind, and none is logged."""

NodeEvent = Started | WorkerReady | WorkerFailed | DataShown | Waiting | Ended
"""Events of this device's processes and data."""

PeerEvent = PeerLinked | PeerLost | PeerLeaving | AddressFailed
"""Events of the connections with other nodes."""

RunEvent = (
    RunJoined
    | RunExtended
    | CaughtUp
    | QuorumLost
    | QuorumBack
    | ControlRequested
    | Resumed
    | Committed
    | RosterChanged
    | EvaluationFinished
    | RunEnded
)
"""Events of the run as a whole: membership, quorum, commits, evaluations."""

TrainingEvent = TrainingStarted | TrainingFinished | UpdateReused
"""Events of this node's own training for the open round."""

AggregationEvent = (
    ElectionStarted | Elected | UpdateCounted | UpdateRefused | Proposed | RecordAccepted | SteppedDown
)
"""Events of the open round's election, aggregation and decision: its commit makes them obsolete."""

AnyEvent = LogEvent | LiveEvent | NodeEvent | PeerEvent | RunEvent | TrainingEvent | AggregationEvent
"""Every event. Each belongs to exactly one of the groups above; `p2pfl.fold` dispatches by group."""


class Published(msgspec.Struct, frozen=True):
    """An event with what the driver adds: its number in this process and the wall clock."""

    seq: int
    """From 1 on; 0 for what is told of before the process."""
    time: float
    """Seconds since the epoch, by this device's clock."""
    event: AnyEvent
    training_round: int | None = None
    """The training round the event is about, as people count them (`p2pfl.numbering`); its `round` is the
    record's place in the chain. None where it is about none."""


class RoundRow(msgspec.Struct, frozen=True):
    """One committed round as a journal keeps it, with names instead of node ids."""

    run: str
    round: int
    """The record's place in the chain; `training_round` is the number people see."""
    kind: Literal["train", "evaluate"]
    attempt: int
    """Of the ballot that first proposed the value: the same in every journal, whoever finished it."""
    aggregator: str
    """Who averaged: the node of that ballot."""
    digest: str
    """The model's."""
    parent: str
    """The parent model's."""
    record: str
    members: tuple[str, ...]
    """The roster that voted in this round (the record itself names the next one)."""
    updates: tuple[CountedUpdate, ...]
    left_out: tuple[tuple[str, str], ...]
    """Name and reason."""
    accuracy: float | None
    """Of this round's model, as the next record committed it, else as reported; None before anybody did."""
    loss: float | None
    """Mean cross-entropy, from the same evaluations."""
    samples: int
    """Held-out samples in those evaluations."""
    scores: tuple[MemberScore, ...]
    """Those evaluations."""
    seconds: float
    """From this node's previous commit to this one; 0 where it was told of the round only afterwards."""
    note: str
    then: Literal["go", "pause", "end"]
    trained: int = 0
    """Rounds of training up to and including this one; 0 where nobody said."""
    committed: bool = True
    """Whether `accuracy`, `loss` and `scores` are committed; those only reported may still change."""

    @property
    def training_round(self) -> int:
        """The number of this training round, of a closing evaluation that of the last one before it."""
        return self.trained or self.round
