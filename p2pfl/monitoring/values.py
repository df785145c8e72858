"""The values that a node's metrics and probes show, folded from the node's events.

It is small and bounded, however long a run is and whatever peers are called: a node with `--metrics` keeps it
beside everything else. Counters count since the start of the process, as Prometheus expects.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, assert_never

from p2pfl import events
from p2pfl.events import Published
from p2pfl.fold import EventFold
from p2pfl.messages import quorum
from p2pfl.spec import RunSpec
from p2pfl.text import one_line

MAX_PEERS = 512
"""Peers with values of their own, those that are gone included. A roster has at most half as many."""

MAX_METRICS = 64
"""Metrics of a model that are shown: a task file may measure any number of them."""

OTHERS = "(others)"
"""The label of members beyond `MAX_PEERS`."""

ROUND_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Upper bounds of the histogram of round durations: from rounds of a demo to hours, with the default
`--round-cap` of 900 s among them."""

Phase = Literal["starting", "waiting", "running", "paused", "finished", "ended"]
"""What the node does. "finished": its run is over, and it still serves; "ended": the process is about to
exit."""

WorkerState = Literal["starting", "ready", "failed"]
"""State of the worker process. "failed": it ended or hung, and has done nothing since."""


@dataclass
class PeerValues:
    """One other node."""

    name: str
    linked: bool = False
    run: str | None = None
    """The run that it is in, as it said last; None before it said anything."""
    rtt: float | None = None
    """Seconds of the last ping."""
    sent: int = 0
    """Bytes sent to it since this node's start."""
    received: int = 0


class RoundHistogram:
    """Durations of rounds, counted by `ROUND_SECONDS`."""

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * (len(ROUND_SECONDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one round."""
        self.sum += seconds
        self._counts[bisect_left(ROUND_SECONDS, seconds)] += 1

    def cumulative(self) -> list[int]:
        """Return the number of rounds up to each bound, and of all rounds as the last one."""
        total, result = 0, []
        for count in self._counts:
            total += count
            result.append(total)
        return result


class NodeValues(EventFold):
    """What is known of one node, its peers and its run."""

    def __init__(self) -> None:
        self.name = self.node = self.federation = ""
        self.phase: Phase = "starting"
        self.waiting: events.Waiting | None = None
        """What the start of a run waits for; None in a run."""
        self.ended: events.Ended | None = None
        self.worker: WorkerState = "starting"
        self.worker_failures = 0
        self.certificate_end: float | None = None
        """End of the certificate in use, in seconds since the epoch; None until the node has told it."""
        self.worker_reason = ""
        """Why the worker failed the last time."""
        self.memory: int | None = None
        """Resident bytes of node and worker; None before the first measurement."""
        self.peers: dict[str, PeerValues] = {}
        """By node id."""
        self.run = ""
        self.spec: RunSpec | None = None
        self.members: tuple[str, ...] = ()
        """Names of the roster."""
        self.has_lost_quorum = False
        self.round = 0
        """The last committed training round."""
        self.rounds = 0
        """Training rounds that the run is to have."""
        self.metrics: dict[str, float] = {}
        """The last committed evaluation, by name of the metric."""
        self.metrics_round = 0
        """The training round of that model."""
        self.primary = "accuracy"
        """The metric by which the run's models are compared."""
        self.committed = 0
        """Training rounds that were committed while this process ran."""
        self.round_seconds = RoundHistogram()
        self.last_round_at: float | None = None
        """Time of the last commit of a training round, by this device's clock."""
        self.last_attempts = 0
        """Attempts that the last committed round took."""
        self.counted = 0
        """Updates in these rounds."""
        self.left_out: dict[str, int] = {}
        """Rounds without an update of a member, by the member's name."""
        self.elections = 0
        """Elections in which this node stood."""
        self.aggregators = 0
        """Elections that a node won, as far as this node learned."""
        self.step_downs = 0

    @property
    def linked(self) -> int:
        """Number of linked peers."""
        return sum(peer.linked for peer in self.peers.values())

    @property
    def reachable(self) -> int:
        """Members that are linked and in the run, this node included if it is one."""
        able = {peer.name for peer in self.peers.values() if peer.linked and peer.run in (None, self.run)}
        return sum(name == self.name or name in able for name in self.members)

    @property
    def needed(self) -> int:
        """Members that make a quorum; 0 without a run."""
        return quorum(len(self.members)) if self.members else 0

    @property
    def has_quorum(self) -> bool:
        """Whether the run can commit, as far as this node can see."""
        return bool(self.members) and not self.has_lost_quorum and self.reachable >= self.needed

    def take(self, published: Published) -> None:
        """Take the next event of the node."""
        self.fold(published)

    # --- the fold -------------------------------------------------------------------------------------------

    def _on_log(self, event: events.LogEvent, item: Published) -> None:
        del event, item  # only for logs

    def _on_live(self, event: events.LiveEvent, item: Published) -> None:
        del item
        match event:
            case events.ProgressMade():
                if event.what == "train":
                    self.worker = "ready"  # it was restarted: the node publishes no other event of that
            case events.Measured():
                self.memory = event.memory
                for link in event.links:
                    if (peer := self.peers.get(link.node)) is not None:
                        peer.rtt, peer.sent, peer.received = link.rtt, link.sent, link.received
            case events.PeerStatus():
                if event.node in self.peers:
                    self.peers[event.node].run = event.run
            case events.PeerDeviceInfo() | events.AddressStates():
                pass
            case _:
                assert_never(event)

    def _on_node(self, event: events.NodeEvent, item: Published) -> None:
        del item
        match event:
            case events.Started():
                self.name, self.node, self.federation = event.name, event.node, event.federation
            case events.WorkerReady():
                self.worker = "ready"
            case events.WorkerFailed():
                self.worker, self.worker_reason = "failed", event.reason
                self.worker_failures += 1
            case events.Waiting():
                self.waiting = event
                if not self.run:
                    self.phase = "waiting"
            case events.Ended():
                self.phase, self.ended = "ended", event
            case events.CertificateChanged():
                self.certificate_end = event.not_after
            case events.DataShown():
                pass
            case _:
                assert_never(event)

    def _on_peer(self, event: events.PeerEvent, item: Published) -> None:
        del item
        match event:
            case events.PeerLinked():
                peer = self._peer(event.node, event.name)
                peer.linked, peer.run = True, None
            case events.PeerLost():
                peer = self._peer(event.node, event.name)
                peer.linked, peer.rtt = False, None
            case events.PeerLeaving() | events.AddressFailed() | events.MemberExcluded():
                pass
            case _:
                assert_never(event)

    def _on_run(self, event: events.RunEvent, item: Published) -> None:
        match event:
            case events.RunJoined():
                self._join(event, item.training_round or 0)
            case events.RunExtended():
                self.rounds, self.phase = max(self.rounds, event.rounds), "running"
            case events.QuorumLost():
                self.has_lost_quorum = True
            case events.QuorumBack():
                self.has_lost_quorum = False
            case events.Resumed():
                self.phase = "running"
            case events.Committed():
                self._commit(event, item.time)
            case events.RosterChanged() | events.CaughtUp() | events.ControlRequested():
                pass
            case events.EvaluationFinished():
                if event.committed:
                    self._evaluate(event.metrics, event.primary, item.training_round or event.round)
            case events.RunEnded():
                self.phase = "finished"
                if event.metrics:
                    self._evaluate(event.metrics, event.primary, event.rounds)
            case _:
                assert_never(event)

    def _on_training(self, event: events.TrainingEvent, item: Published) -> None:
        del item
        match event:
            case events.TrainingStarted():
                if self.phase in ("paused", "finished"):
                    self.phase = "running"
            case events.TrainingFinished():
                self.worker = "ready"
            case events.UpdateReused():
                pass
            case _:
                assert_never(event)

    def _on_aggregation(self, event: events.AggregationEvent, item: Published) -> None:
        del item
        match event:
            case events.ElectionStarted():
                self.elections += 1
            case events.Elected():
                self.aggregators += 1
            case events.SteppedDown():
                self.step_downs += 1
            case (
                events.MembersSelected()
                | events.UpdateCounted()
                | events.UpdateRefused()
                | events.Proposed()
                | events.RecordAccepted()
            ):
                pass
            case _:
                assert_never(event)

    # --- parts ----------------------------------------------------------------------------------------------

    def _peer(self, node: str, name: str) -> PeerValues:
        peer = self.peers.get(node)
        if peer is None:
            if len(self.peers) >= MAX_PEERS:
                gone = (key for key, one in self.peers.items() if not one.linked)
                del self.peers[next(gone, next(iter(self.peers)))]
            peer = self.peers[node] = PeerValues(name)
        peer.name = name
        return peer

    def _join(self, event: events.RunJoined, trained: int) -> None:
        if event.run != self.run:
            self.metrics, self.metrics_round = {}, 0
        self.run, self.spec, self.members = event.run, event.spec, event.members
        self.primary = event.measures.primary
        self.round, self.rounds = trained, event.spec.rounds
        self.waiting, self.has_lost_quorum = None, False
        self.phase = "finished" if event.how == "finished" else "running"

    def _commit(self, event: events.Committed, time: float) -> None:
        self.members, self.round, self.rounds = event.members, event.trained, event.rounds
        self.has_lost_quorum = False
        if event.then == "pause":
            self.phase = "paused"
        elif event.then == "go" and self.phase != "ended":
            self.phase = "running"
        if event.kind != "train":
            return
        self.committed += 1
        self.counted += len(event.updates)
        for name, _ in event.left_out:
            key = name if name in self.left_out or len(self.left_out) < MAX_PEERS else OTHERS
            self.left_out[key] = self.left_out.get(key, 0) + 1
        if not event.is_late:
            self.last_round_at, self.last_attempts = time, event.attempt
            if event.seconds > 0:
                self.round_seconds.add(event.seconds)

    def _evaluate(self, metrics: dict[str, float], primary: str, number: int) -> None:
        names = [primary, "loss", *metrics]
        kept = [name for name in dict.fromkeys(names) if name in metrics][:MAX_METRICS]
        self.metrics = {name: metrics[name] for name in kept}
        self.primary, self.metrics_round = primary, number


def label(text: str) -> str:
    """Return a name from another device as the value of a label."""
    return one_line(text, 64)
