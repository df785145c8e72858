"""What a node tells its observers: the log, the history, the screen.

A closed union of frozen structs, tagged by `event`. Events carry values, not sentences: `p2pfl.cli` renders
them for people, `--events FILE` writes them as JSON lines, `p2pfl.core` and the drivers make them. The time
(seconds since the epoch) and the sequence number are added by the driver when it publishes an event, since
the protocol reads no clock.

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


class Progress(Event, frozen=True, tag="progress"):
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


class PeerLeaving(Event, frozen=True, tag="peer_leaving"):
    """A member asked to be dropped from the roster with the next commit."""

    node: str
    name: str


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


class Trained(Event, frozen=True, tag="trained"):
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


class Standing(Event, frozen=True, tag="standing"):
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


class Accepted(Event, frozen=True, tag="accepted"):
    """The node durably accepted a proposed record."""

    round: int
    attempt: int
    aggregator: str
    digest: str


class Yielded(Event, frozen=True, tag="yielded"):
    """An aggregator gave its ballot up."""

    round: int
    attempt: int
    aggregator: str
    reason: str
    kind: Literal["train", "evaluate"] = "train"
    """"evaluate": the round trains nothing, its record closes the run."""


class Committed(Event, frozen=True, tag="committed"):
    """A round is decided."""

    round: int
    kind: Literal["train", "evaluate"]
    attempt: int
    aggregator: str
    digest: str
    """The model's."""
    record: str
    members: tuple[str, ...]
    """Names in the next roster."""
    updates: tuple[str, ...]
    """Names whose updates were counted."""
    left_out: tuple[tuple[str, str], ...]
    """Name and reason."""
    then: Literal["go", "pause", "end"]
    note: str
    seconds: float
    """Since this node's previous commit."""


class RosterChanged(Event, frozen=True, tag="roster_changed"):
    """A commit changed who votes; says how many failures the new roster tolerates."""

    round: int
    joined: tuple[str, ...]
    left: tuple[str, ...]
    members: int
    tolerates: int


class Evaluated(Event, frozen=True, tag="evaluated"):
    """How the committed model of a round did, summed over the members that reported so far."""

    round: int
    accuracy: float
    loss: float
    samples: int
    reports: int
    members: int
    committed: bool = False
    """Whether these are the evaluations the next record committed: what the history will show."""


class RunEnded(Event, frozen=True, tag="run_ended"):
    """The run's last record is committed and its blobs are durable here."""

    run: str
    rounds: int
    model: str
    accuracy: float | None
    loss: float | None


AnyEvent = (
    Started
    | WorkerReady
    | WorkerFailed
    | Progress
    | Notice
    | Ended
    | PeerLinked
    | PeerLost
    | PeerRefused
    | PeerLeaving
    | Waiting
    | RunJoined
    | OptionsIgnored
    | QuorumLost
    | QuorumBack
    | DataShown
    | TrainingStarted
    | Trained
    | UpdateReused
    | Standing
    | Elected
    | UpdateCounted
    | UpdateRefused
    | Proposed
    | Accepted
    | Yielded
    | Committed
    | RosterChanged
    | Evaluated
    | RunEnded
)
"""Every event there is."""
