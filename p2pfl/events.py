"""Events: what a node reports to its log, its events file and its observers.

Events are a closed union of frozen structs, tagged by `event`. The protocol core and the drivers create them.
They carry values: `p2pfl.observe.render` turns them into sentences, `--events FILE` writes them as JSON
lines. The publisher adds the time and a sequence number (`Published`), because the protocol reads no clock.
`RoundRow` describes a committed round of the history.

Names come from peers: they are untrusted text, which printers escape.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.cards import CLASSIFICATION, DataCard, Measures
from p2pfl.messages import ClassCount, Evaluation
from p2pfl.spec import RunSpec

NoticeLevel = Literal["info", "warning", "error"]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="event", omit_defaults=False):
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
    """Time from the start of the process until peers can reach it."""


class WorkerReady(Event, frozen=True, tag="worker_ready"):
    """The worker has loaded the task and can train."""

    task: str
    device: str
    examples: int
    """Number of its training examples; 0 if they are not told, or told with each update (scripts)."""
    parameters: int
    seconds: float


class WorkerFailed(Event, frozen=True, tag="worker_failed"):
    """The worker process ended or hung; the node restarts it."""

    reason: str


class CertificateChanged(Event, frozen=True, tag="certificate_changed"):
    """The certificate that this node shows: after the start, and when it was renewed or reloaded."""

    not_after: float
    """Its end, in seconds since the epoch."""
    how: str
    """How it came, such as "renewed by ada"; empty after the start."""


class ProgressMade(Event, frozen=True, tag="progress_made"):
    """Progress of local training or of a transfer. Frequent; for live displays, not for logs."""

    round: int
    what: Literal["train", "pull", "push"]
    done: int
    """Batches of the training, or bytes of the transfer."""
    total: int
    peer: str = ""


class Notice(Event, frozen=True, tag="notice"):
    """A sentence for the user of this device that no other event carries."""

    level: NoticeLevel
    text: str


class Ended(Event, frozen=True, tag="ended"):
    """The node is about to exit."""

    code: int
    reason: str


class Commanded(Event, frozen=True, tag="commanded"):
    """The result of a command that a user or an operator gave to this node."""

    who: str
    """Name and role of the person who gave it."""
    what: str
    refused: str
    """Why it was refused; empty if it was carried out."""


class LinkMeasure(msgspec.Struct, frozen=True, gc=False):
    """The measurements of the link with one peer, in `Measured`."""

    node: str
    rtt: float | None
    """Seconds from the last ping to its answer; None before the first answer."""
    sent: int
    """Bytes sent since this node's start on all connections with the peer."""
    received: int


class Measured(Event, frozen=True, tag="measured"):
    """Metrics of this node and its links, sampled each second while an observer is connected."""

    cpu: float
    """Processor use of node and worker over the last interval, in cores (1.0 is one busy core)."""
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
    """A connection was refused by this node or the other side; the reason says which side and why."""

    address: str
    reason: str


class AddressFailed(Event, frozen=True, tag="address_failed"):
    """A dialled address is unreachable, unreachable for a new reason, or reachable again."""

    address: str
    """As the operator wrote it, or with the name of the node that was or should be there."""
    reason: str
    """Empty if a node was reached there."""
    is_refused: bool
    """Whether one side refused the other."""
    delay: float = 0.0
    """Seconds until the next dial."""


class AddressState(msgspec.Struct, frozen=True, gc=False):
    """An address that the node dials for its operator, in `AddressStates`."""

    address: str
    """As in `AddressFailed`."""
    kind: Literal["listed", "found", "known"]
    """Listed by the operator, found in the local network, or known from an earlier link."""
    node: str
    """Node id of the node that answered there last or should be there; empty if unknown."""
    name: str
    """Its name, if it is linked."""
    state: Literal["dialling", "linked", "unreached", "refused"]
    """"refused": one side refused the other."""
    reason: str
    """Why it is not linked; empty if it is, and before the first dial has failed."""
    next_try: float | None
    """Time of the next dial after a failure, in seconds since the epoch, by the node's clock. A time that has
    passed: it is being dialled. None before the first failure, and if it is not dialled any more."""


class AddressStates(Event, frozen=True, tag="address_states"):
    """All addresses that the node dials for its operator, whenever one changes."""

    addresses: tuple[AddressState, ...]


class PeerLeaving(Event, frozen=True, tag="peer_leaving"):
    """A member asked to be removed from the roster with the next commit."""

    node: str
    name: str


class MemberExcluded(Event, frozen=True, tag="member_excluded"):
    """An operator or the CA has said who is kept out of the federation: kicked, banned, or not any more."""

    node: str
    name: str
    """Its name, as the signer of the statement wrote it."""
    text: str
    """What was said, by whom and why: half a sentence after the name."""
    is_held: bool
    """Whether it is kept out from now on; not after a kick, and after a ban was lifted."""


class PeerDeviceInfo(Event, frozen=True, tag="peer_device_info"):
    """Description of the device and the training data of a node, this node included."""

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
    part: DataCard | None
    """The data partition that it trains on in this run; None until it has trained."""

    @property
    def examples(self) -> int:
        """Training examples of its data partition; 0 until it has trained, and if it does not tell them."""
        return self.part.examples if self.part is not None and self.part.share != "none" else 0

    @property
    def labels(self) -> tuple[int, ...]:
        """Number of these examples by label; empty until it has trained."""
        return tuple(count.examples for count in self.part.labels) if self.part is not None else ()


class PeerStatus(Event, frozen=True, tag="peer_status"):
    """The last Status of a node, this one included; a few a second at most while an observer is connected."""

    node: str
    name: str
    run: str
    """Empty while it is in none."""
    round: int
    """The last round whose commit it knows."""
    holds: bool
    """Whether that round's model is on its disk."""
    phase: Literal["starting", "idle", "training", "trained", "aggregating", "leaving"]
    progress: float
    """Completed share of the round's local training, from 0 to 1."""
    predicted: float
    """Estimated duration of its whole local training; 0 if unknown."""
    links: int
    """Number of members it is linked to."""
    is_member: bool
    """Whether it is in the roster."""
    ended: bool
    """Whether it has the final model."""


# --- the run ------------------------------------------------------------------------------------------------


class Waiting(Event, frozen=True, tag="waiting"):
    """There is no run yet; says how many nodes are present and needed, and what is missing."""

    present: int
    needed: int
    reason: str
    is_mismatch: bool = False
    """Whether people must do something first: the data, the task or the options of a device do not fit."""
    options: str = ""
    """The options of the run that were given and will hold, such as "--rounds 200"; empty if they are all
    defaults, or undecided."""
    options_of: str = ""
    """Name of a device whose options will hold; empty if nobody gave any, or if it is undecided."""
    is_known: bool = False
    """Whether the reason was told before, and only the options changed."""
    held_by: str = ""
    """Name of the device whose operator holds the start; empty if something else is missing."""


class RunJoined(Event, frozen=True, tag="run_joined"):
    """The node has entered a run."""

    run: str
    how: Literal["founded", "joined", "resumed", "learner", "finished", "continued"]
    """"learner": it is no member yet; "continued": the run continues the node's previous run."""
    round: int
    spec: RunSpec
    """The run's spec, with its present number of rounds, extensions included."""
    members: tuple[str, ...]
    model: str = ""
    trained: int | None = None
    """Training rounds up to and including `round`; None if unknown."""
    measures: Measures = CLASSIFICATION
    """Loss and metrics of the run's evaluations."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty if the task has none."""
    notes: tuple[str, ...] = ()
    """What is unusual about the data of single devices."""


class RunExtended(Event, frozen=True, tag="run_extended"):
    """A finished run continues, because an operator asked for more rounds."""

    rounds: int
    """Training rounds that the run is to have now."""
    by: str
    """Name of the node that was started with this number of rounds."""


class CaughtUp(Event, frozen=True, tag="caught_up"):
    """The node has received committed records that it had missed."""

    first: int
    """Number of the first training round among them."""
    last: int
    rounds: int
    """Rounds of training the run is to have."""
    source: str
    """The name of the node they came from."""


class OptionsIgnored(Event, frozen=True, tag="options_ignored"):
    """Options of this device's command line that differ from the run's. The run's values apply."""

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
    """The distribution of this node's data partition over the labels."""

    partition: int
    partitions: int
    part: DataCard

    @property
    def labels(self) -> tuple[int, ...]:
        """Number of examples by label."""
        return tuple(count.examples for count in self.part.labels)


class TrainingStarted(Event, frozen=True, tag="training_started"):
    """Local training for a round has begun."""

    round: int
    partition: int


class TrainingFinished(Event, frozen=True, tag="training_finished"):
    """Local training for a round has finished with an update."""

    round: int
    digest: str
    examples: int
    steps: int
    """Optimizer steps."""
    loss: float
    seconds: float
    planned: int = 0
    """Steps that it was to take, if the deadline cut it; 0: it took all."""


class UpdateReused(Event, frozen=True, tag="update_reused"):
    """The node offers an update that it trained before a restart, instead of training again."""

    round: int
    digest: str


class MembersSelected(Event, frozen=True, tag="members_selected"):
    """Only some members are selected to train in the open round; again when the aggregator selects more."""

    round: int
    names: tuple[str, ...]
    """Of all that are selected, as far as this node knows."""


class ElectionStarted(Event, frozen=True, tag="election_started"):
    """The node runs for election as aggregator."""

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
    """Number of counted promises; 0 if this node only heard of the election."""
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class UpdateCounted(Event, frozen=True, tag="update_counted"):
    """An update is counted: reported by the aggregator, and by the member whose own update it is."""

    round: int
    name: str
    examples: int


class UpdateRefused(Event, frozen=True, tag="update_refused"):
    """An update is not counted, with the reason."""

    round: int
    name: str
    reason: str


class Proposed(Event, frozen=True, tag="proposed"):
    """The node, as aggregator, has proposed the round's record."""

    round: int
    attempt: int
    digest: str
    updates: int
    adopted: bool
    """Whether it is the record of an earlier ballot that a member had accepted."""


class RecordAccepted(Event, frozen=True, tag="record_accepted"):
    """The node has durably accepted a proposed record."""

    round: int
    attempt: int
    aggregator: str
    digest: str


class SteppedDown(Event, frozen=True, tag="stepped_down"):
    """A candidate or an aggregator has given up its ballot."""

    round: int
    attempt: int
    aggregator: str
    reason: str
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class ControlRequested(Event, frozen=True, tag="control_requested"):
    """An operator has asked to pause or end the run; the next commit will do it."""

    what: Literal["pause", "end", "end-now"]
    """"end-now": members stop training, so that the round closes at once."""
    by: str
    """Who asked, according to the device where the request was given, and that device."""


class Resumed(Event, frozen=True, tag="resumed"):
    """A paused run has been resumed."""

    round: int
    """The last round before the pause."""
    by: str
    """Who asked for it, or the name of the device from which this node learned of it."""


class CountedUpdate(msgspec.Struct, frozen=True, gc=False):
    """An update that was aggregated in a round."""

    name: str
    examples: int
    """Its weight in the aggregation."""
    steps: int
    """Optimizer steps of its training."""
    loss: float
    """Mean training loss of its last local epoch."""
    seconds: float
    """Duration of its training."""
    planned: int = 0
    """Steps that its training was to take, if the deadline cut it; 0: it took all."""

    @property
    def cut(self) -> str:
        """Where the deadline cut its training, such as "37 of 120 batches"; empty if it did not."""
        return f"{self.steps} of {self.planned} batches" if self.planned else ""


R2_HIDDEN = ("target", "target_square")
"""Sums that are of use only for "r2"."""


class MemberScore(msgspec.Struct, frozen=True, gc=False):
    """The evaluation of a committed model on one member's held-out data."""

    name: str
    examples: int
    sums: dict[str, float]
    """Sum over the examples by metric; see `p2pfl.messages.Evaluation`."""
    derived: dict[str, float] = {}
    """The metrics that are derived from the counts of classes or from several sums, such as "f1" and "r2"."""

    @classmethod
    def of(cls, name: str, evaluation: Evaluation) -> MemberScore:
        """Return the *evaluation* of the member *name*."""
        derived = {key: value for key, value in evaluation.metrics.items() if key not in evaluation.sums}
        return cls(name, evaluation.examples, evaluation.sums, derived)

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric by name, as `p2pfl.messages.Evaluation.metrics` has them."""
        if not self.examples:
            return {}
        hidden = R2_HIDDEN if "r2" in self.derived else ()
        means = {name: value / self.examples for name, value in self.sums.items() if name not in hidden}
        return means | self.derived

    def mean(self, metric: str) -> float | None:
        """Return the value of *metric*, or None if it was not measured."""
        if not self.examples:
            return None
        if metric in self.derived:
            return self.derived[metric]
        return self.sums[metric] / self.examples if metric in self.sums else None


class ClassScore(msgspec.Struct, frozen=True, gc=False):
    """How the members classified the examples of one class."""

    label: str
    right: int
    """Examples of the class that were predicted to be of it."""
    examples: int
    """Examples of the class."""
    predicted: int
    """Examples of any class that were predicted to be of it."""


class Committed(Event, frozen=True, tag="committed"):
    """A round is committed."""

    run: str
    round: int
    kind: Literal["train", "evaluate"]
    attempt: int
    aggregator: str
    digest: str
    """The model's."""
    record: str
    members: tuple[str, ...]
    """Names of the members of the next roster."""
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
    """Time since this node's previous commit; 0 if it learned of the round only afterwards."""
    is_late: bool = False
    """Whether this node learned of the round during catch-up, after it was committed."""

    @property
    def contributors(self) -> tuple[str, ...]:
        """Names of the members whose updates were counted."""
        return tuple(update.name for update in self.updates)


class RosterChanged(Event, frozen=True, tag="roster_changed"):
    """A commit changed the roster; says how many failures the new roster tolerates."""

    round: int
    joined: tuple[str, ...]
    left: tuple[str, ...]
    members: int
    tolerates: int


class EvaluationFinished(Event, frozen=True, tag="evaluation_finished"):
    """The evaluation of a round's committed model by the members that have reported so far."""

    round: int
    metrics: dict[str, float]
    """The mean of each metric."""
    examples: int
    reports: int
    members: int
    scores: tuple[MemberScore, ...] = ()
    """The evaluations of the members."""
    committed: bool = False
    """Whether the next record has committed these evaluations, so that they never change. Reported
    evaluations can change, because a member may be gone before the record is made."""
    is_news: bool = True
    """False if all members had reported the committed evaluations before, or if the round was missed."""
    reported: float | None = None
    """The mean of the primary metric that all members had reported before, if the committed one differs."""
    primary: str = "accuracy"
    """The name of the primary metric."""
    classes: tuple[ClassCount, ...] = ()
    """Counts by class, in the order of the run's classes; empty where the run does not count them."""

    @property
    def primary_value(self) -> float | None:
        """The value of the primary metric; None if nobody measured it."""
        return self.metrics.get(self.primary)


class RunEnded(Event, frozen=True, tag="run_ended"):
    """The run's last record is committed and its blobs are durable here."""

    run: str
    rounds: int
    """Number of committed training rounds."""
    model: str
    metrics: dict[str, float]
    """Mean of each metric for that model, as the last record committed it; empty without an evaluation."""
    planned: int = 0
    """Training rounds that the run was to have; 0 if unknown."""
    is_trained: bool = True
    """False if no update was ever counted, so that the model is still the initial one."""
    primary: str = "accuracy"
    """The name of the primary metric."""
    why: str = ""
    """Why the run ended before its last round by its own rule; empty if it did not."""

    @property
    def primary_value(self) -> float | None:
        """The value of the primary metric; None if nobody measured it."""
        return self.metrics.get(self.primary)


LogEvent = Notice | Commanded | OptionsIgnored | PeerRefused
"""Events that are only log lines: they change no state."""

LiveEvent = ProgressMade | Measured | PeerStatus | PeerDeviceInfo | AddressStates
"""Frequent events for live displays: each replaces the previous one of the same kind, and none is logged."""

NodeEvent = Started | CertificateChanged | WorkerReady | WorkerFailed | DataShown | Waiting | Ended
"""Events about this device's processes and data."""

PeerEvent = PeerLinked | PeerLost | PeerLeaving | MemberExcluded | AddressFailed
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
    MembersSelected
    | ElectionStarted
    | Elected
    | UpdateCounted
    | UpdateRefused
    | Proposed
    | RecordAccepted
    | SteppedDown
)
"""Events of the open round's election, aggregation and decision: its commit makes them obsolete."""

AnyEvent = LogEvent | LiveEvent | NodeEvent | PeerEvent | RunEvent | TrainingEvent | AggregationEvent
"""Every event. Each belongs to exactly one of the groups above; `p2pfl.fold` dispatches by group."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """An event with the number and the time that the publisher adds."""

    seq: int
    """Sequence number in this process, from 1; 0 for events before the process."""
    time: float
    """Time in seconds since the epoch, by this device's clock."""
    event: AnyEvent
    training_round: int | None = None
    """The training round of the event, as people count them (`p2pfl.numbering`), or None. The event's `round`
    is the record's place in the chain."""


class RoundRow(msgspec.Struct, frozen=True, gc=False):
    """One committed round from a journal, with names instead of node ids."""

    run: str
    round: int
    """The record's place in the chain; `training_round` is the number that people see."""
    kind: Literal["train", "evaluate"]
    attempt: int
    """Attempt of the ballot that first proposed the record; the same in every journal."""
    aggregator: str
    """Name of the node of that ballot."""
    digest: str
    """The model's."""
    parent: str
    """The parent model's."""
    record: str
    members: tuple[str, ...]
    """The roster that voted in this round; the record itself names the next roster."""
    updates: tuple[CountedUpdate, ...]
    left_out: tuple[tuple[str, str], ...]
    """Name and reason."""
    metrics: dict[str, float]
    """Mean of each metric for this round's model, as committed by the next record, else as reported; empty
    before the first report."""
    examples: int
    """Number of held-out examples in these evaluations."""
    scores: tuple[MemberScore, ...]
    """The evaluations of the members."""
    seconds: float
    """Time from this node's previous commit to this one; 0 if it learned of the round only afterwards."""
    note: str
    then: Literal["go", "pause", "end"]
    trained: int = 0
    """Training rounds up to and including this one; 0 if unknown."""
    committed: bool = True
    """Whether `metrics` and `scores` are committed; reported ones can still change."""
    primary: str = "accuracy"
    """The name of the primary metric."""
    direction: Literal["max", "min"] = "max"
    """Whether a larger or a smaller value of it is better."""
    strategy: str = "fedavg"
    """The strategy of the run with its options that have not their default."""
    classes: tuple[ClassScore, ...] = ()
    """What the evaluations count of each class; only in the rows of `p2pfl history` and in an observer's last
    ones."""

    @property
    def primary_value(self) -> float | None:
        """The value of the primary metric; None if nobody measured it."""
        return self.metrics.get(self.primary)

    @property
    def accuracy(self) -> float | None:
        """The mean of "accuracy"; None where nobody measured it."""
        return self.metrics.get("accuracy")

    @property
    def loss(self) -> float | None:
        """The mean of "loss"; None where nobody measured it."""
        return self.metrics.get("loss")

    @property
    def training_round(self) -> int:
        """The number of this training round, of a closing evaluation that of the last one before it."""
        return self.trained or self.round
