"""The state of a node as an observer knows it, folded from the node's events.

It reads no clock and draws nothing: the same events give the same state, from a live node, a recording or a
test. Its size is bounded, however long the run is. Names come from other devices and are untrusted: a caller
that shows them escapes them first (`p2pfl.text.one_line`).
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Literal, assert_never

from p2pfl import events
from p2pfl.cards import CLASSIFICATION
from p2pfl.events import MemberScore, Published, RoundRow
from p2pfl.fold import EventFold
from p2pfl.messages import quorum
from p2pfl.numbering import Numbering
from p2pfl.observe.marks import FIRST_ATTEMPT, NO_QUORUM, Marks
from p2pfl.observe.peers import Activity, Peer, Transfer, activity_of, update_transfers
from p2pfl.observe.render import LogRow, row_of
from p2pfl.observe.rounds import MAX_REFUSED, OpenRound, Round, Rounds
from p2pfl.spec import RunSpec
from p2pfl.statements import KICKED, REVOKED

MAX_LOG = 5000
"""Lines kept of the log."""

MAX_PEERS = 512
"""Nodes kept, including those that have gone."""

Phase = Literal[
    "starting", "waiting", "running", "no quorum", "paused", "complete", "stopped", "untrained", "ended"
]  # fmt: skip
"""A finished run is "complete" if it trained all its rounds, "stopped" if an operator or its own rule ended
it earlier, and "untrained" if no update was ever counted."""

FINISHED_PHASES: tuple[Phase, ...] = ("complete", "stopped", "untrained")
"""Phases of a finished run; it continues only when a member asks for more rounds."""

Section = Literal["run", "peers", "rounds", "open", "log", "traffic"]
"""Parts of the state that a screen draws independently."""


class State(EventFold):
    """All that is known of one node, its peers and its run."""

    def __init__(self) -> None:
        self.seq = 0
        self.versions: Counter[Section] = Counter()
        """Incremented with every change of a section, so that a screen draws only what changed."""
        self.peers: dict[str, Peer] = {}
        """By name."""
        self.rounds = Rounds()
        self.marks = Marks()
        """Losses, joins, repeated elections and pauses of the run; a change of them is one of "rounds"."""
        self.log: deque[LogRow] = deque(maxlen=MAX_LOG)
        self.name = self.node = self.federation = self.address = self.data_dir = ""
        self.run = ""
        self.spec: RunSpec | None = None
        self.measures = CLASSIFICATION
        """Loss and metrics of the run's evaluations."""
        self.classes: tuple[str, ...] = ()
        """Names of the run's classes."""
        self.notes: tuple[str, ...] = ()
        """What is unusual about the data of the run's devices."""
        self.target_rounds = 0
        """Training rounds the run should have."""
        self.demo_rounds: int | None = None
        """Training rounds of an endless demo, 0 while it goes on until it is ended; None for other runs."""
        self.trained = 0
        """Training rounds that are decided."""
        self.members: tuple[str, ...] = ()
        self.open: OpenRound | None = None
        self.phase: Phase = "starting"
        self.waiting: events.Waiting | None = None
        self.addresses: tuple[events.AddressState, ...] = ()
        """The addresses that the node dials for its operator: listed, found and known ones."""
        self.excluded: dict[str, str] = {}
        """By node id: who is banned or revoked, by whom and why."""
        self.kicked: dict[str, str] = {}
        """By node id: who was kicked, by whom and why, until it is linked again."""
        self.quorum: tuple[int, int, int] | None = None
        """Reachable members, all members, and members needed; None while there is a quorum."""
        self.control_requests: dict[str, str] = {}
        """Control requests that no commit has fulfilled yet, with the requester."""
        self.training: tuple[int, int] | None = None
        """Finished and total batches of the observed node's own training."""
        self.transfers: dict[tuple[str, str], Transfer] = {}
        """By direction and peer."""
        self.cpu = 0.0
        self.memory = 0
        self.local_only: dict[str, float] = {}
        """Primary metric of models that a demo trained on one node's data only, by the node's name."""
        self.worker: events.WorkerReady | None = None
        self.certificate_until: float | None = None
        """When the node's certificate ends, in seconds since the epoch; None if that is unknown."""
        self.ended: events.Ended | None = None
        self._decided = 0
        """Number of the last decided record, of whatever kind."""
        self._numbering = Numbering()
        self._training_round = 0
        """Training round of the current event; 0 if it belongs to none."""
        self._measured_at: float | None = None
        self._time = 0.0

    def add_local_only(self, name: str, value: float) -> None:
        """Note the primary metric of a model trained on the data of node *name* only, for a comparison."""
        self.local_only[name] = value
        self._changed("rounds")

    def set_demo_rounds(self, rounds: int) -> None:
        """Note how many rounds an endless demo trains, 0 while it goes on until it is ended."""
        self.demo_rounds = rounds
        self._changed("run")

    @property
    def planned_rounds(self) -> int:
        """Training rounds that are expected, for people; 0 if there is no run, or no end is known."""
        return self.demo_rounds if self.demo_rounds is not None else self.target_rounds

    @property
    def me(self) -> Peer | None:
        """The observed node."""
        return self.peers.get(self.name)

    @property
    def unreached(self) -> dict[str, str]:
        """Dialled addresses where no node answers or one side refuses the other, with the reason."""
        return {one.address: one.reason for one in self.addresses if one.reason}

    @property
    def time(self) -> float:
        """Time of the last event, by the node's clock."""
        return self._time

    def activity(self, peer: Peer) -> Activity:
        """Return the activity of *peer* at the last event: without a connection nobody becomes late."""
        if peer.node in self.excluded:
            return Activity("revoked" if REVOKED in self.excluded[peer.node] else "banned")
        if peer.node in self.kicked:
            return Activity("kicked")
        if peer.is_me:
            transfer = next((one for one in self.transfers.values() if one.what == "push"), None)
        else:
            transfer = self.transfers.get(("pull", peer.name))
        activity = activity_of(
            peer, self.open, is_paused=self.phase == "paused", now=self._time, transfer=transfer
        )
        is_over = self.phase in FINISHED_PHASES and activity.kind not in ("learner", "leaving")
        return Activity("done") if is_over and peer.is_connected and peer.is_member else activity

    def why_out(self, peer: Peer) -> str:
        """Return who has banned, revoked or kicked *peer*, and why; empty if nobody has."""
        return self.excluded.get(peer.node) or self.kicked.get(peer.node, "")

    def expected_members(self, opened: OpenRound) -> list[str]:
        """Return the members that are to train in the round *opened*: all, or those that are selected.

        One that trains all the same was asked by an aggregator that does not tell the observed node whom.
        """
        if not opened.selected:
            return list(self.members)
        chosen = opened.selected | opened.trained | set(opened.counted)
        return [name for name in self.members if name in chosen or self._trains(name, opened)]

    def _trains(self, name: str, opened: OpenRound) -> bool:
        peer = self.peers.get(name)
        status = peer.status if peer is not None and peer.is_connected else None
        return status is not None and status.phase == "training" and status.round == opened.index - 1

    @property
    def reachable(self) -> int:
        """Members that are linked and in the run, the observed node included."""
        return sum(1 for name in self.members if name in self.peers and self._is_able(self.peers[name]))

    def _is_able(self, peer: Peer) -> bool:
        """Whether *peer* can vote and train: not if it is in another run, or in none."""
        is_elsewhere = not peer.is_me and peer.status is not None and peer.status.run != self.run
        return peer.is_connected and not is_elsewhere

    @property
    def needed(self) -> int:
        """Members that make a quorum; 0 before there is a run."""
        return quorum(len(self.members)) if self.members else 0

    def tolerates(self) -> int:
        """Return how many of the reachable members may fail before the run has no quorum."""
        return max(0, self.reachable - self.needed)

    @property
    def primary(self) -> str:
        """The name of the metric by which the run's models are compared."""
        return self.measures.primary

    def value_of(self, one: Round | MemberScore | None) -> float | None:
        """Return the primary metric of a round's model or of a member's score; None if it is unknown."""
        if isinstance(one, MemberScore):
            return one.mean(self.measures.primary)
        return one.metrics.get(self.measures.primary) if one is not None else None

    def round_of(self, index: int) -> int:
        """Return the number of the training round that record *index* belongs to."""
        return self._numbering.of(index)

    # --- the fold -------------------------------------------------------------------------------------------

    def apply(self, item: Published | RoundRow) -> None:
        """Take the next event, or a committed round of the history."""
        if isinstance(item, RoundRow):
            self._history(item)
            return
        if item.seq:
            self.seq = max(self.seq, item.seq)
        self._time = max(self._time, item.time)
        self._log(item)
        number = self._numbering.take(item.event)
        self._training_round = item.training_round if item.training_round is not None else number or 0
        self.fold(item)

    def _on_log(self, event: events.LogEvent, item: Published) -> None:
        del event, item  # `apply` has put its line into the log

    def _on_live(self, event: events.LiveEvent, item: Published) -> None:
        match event:
            case events.ProgressMade() if event.what == "train":
                if event.round > self._decided:  # the last report may come after the commit
                    self.training = (event.done, event.total)
                    self._changed("open")
            case events.ProgressMade():
                update_transfers(self.transfers, event, item.time)
                if self.open is not None and self.open.index == event.round:
                    self.open.note_moved(event.what, event.peer, event.done)
                self._changed("traffic")
            case events.Measured():
                self._measure(event, item.time)
            case events.PeerStatus():
                self._identified(event).take_status(event, item.time)
                if self.open is not None and event.phase == "trained" and event.round == self.open.index - 1:
                    self.open.trained.add(event.name)
                    self._changed("open")
            case events.PeerDeviceInfo():
                self._identified(event).device_info = event
            case events.AddressStates():
                self.addresses = event.addresses[:MAX_PEERS]
                self._changed("run")
            case _:
                assert_never(event)

    def _on_node(self, event: events.NodeEvent, item: Published) -> None:
        del item
        match event:
            case events.Started():
                self.name, self.node, self.federation = event.name, event.node, event.federation
                self.address, self.data_dir = event.address, event.data_dir
                self._restart()
                me = self._peer(event.name)
                me.node, me.is_me, me.address = event.node, True, event.address
                self._changed("run", "peers")
            case events.CertificateChanged():
                self.certificate_until = event.not_after
                self._changed("run")
            case events.WorkerReady():
                self.worker = event
                self._changed("run")
            case events.Waiting():
                self.waiting = event
                if not self.run:
                    self.phase = "waiting"
                self._changed("run")
            case events.Ended():
                self.ended = event
                if self.phase not in FINISHED_PHASES:
                    self.phase = "ended"
                self._changed("run", "peers")
            case events.WorkerFailed() | events.DataShown():
                pass
            case _:
                assert_never(event)

    def _on_peer(self, event: events.PeerEvent, item: Published) -> None:
        match event:
            case events.PeerLinked():
                peer = self._identified(event)
                peer.linked, peer.since, peer.address = True, item.time, event.address
                peer.links_made += 1
                self.kicked.pop(event.node, None)
                peer.leaving, peer.lost_reason = False, ""
                self._mark_link(peer, item.time)
            case events.PeerLost():
                peer = self._identified(event)
                peer.linked, peer.since, peer.lost_reason = False, item.time, event.reason
                peer.up = peer.down = 0.0
                self._mark_link(peer, item.time)
            case events.PeerLeaving():
                self._peer(event.name).leaving = True
                self._changed("peers")
            case events.MemberExcluded():
                self.excluded.pop(event.node, None)
                told = self.excluded if event.is_held else self.kicked
                is_out = event.is_held or event.text.startswith(KICKED)
                if is_out and len(told) < MAX_PEERS:
                    told[event.node] = f"{event.name} {event.text}"
                self._changed("run", "peers")
            case events.AddressFailed():
                pass  # `apply` has put its line into the log
            case _:
                assert_never(event)

    def _on_run(self, event: events.RunEvent, item: Published) -> None:
        match event:
            case events.RunJoined():
                self._join(event, item.time)
            case events.RunExtended():
                self._extend(event.rounds, item.time)
            case events.QuorumLost():
                self.quorum = (event.reachable, event.members, event.needed)
                self.phase = "no quorum"
                self.marks.note("pause", self._open_number, NO_QUORUM, item.time)
                self._changed("run", "rounds")
            case events.QuorumBack():
                self.quorum = None
                if self.phase == "no quorum":
                    self.phase = "running"
                self.marks.note("resume", self._open_number, "", item.time)
                self._changed("run", "rounds")
            case events.ControlRequested():
                self.control_requests[event.what] = event.by
                self._changed("run")
            case events.Resumed():
                self.phase = "running"
                self.marks.note("resume", self._open_number, "", item.time)
                self._changed("run", "rounds")
            case events.Committed():
                self._commit(event, item.time)
            case events.EvaluationFinished():
                if self.rounds.score(event, self._training_round):
                    for score in event.scores:
                        self._peer(score.name).score = score
                    self._changed("rounds", "peers")
            case events.RunEnded():
                is_whole = event.rounds >= event.planned
                self.phase = "untrained" if not event.is_trained else "complete" if is_whole else "stopped"
                self._changed("run", "peers")
            case events.RosterChanged():
                self._changed("peers")
            case events.CaughtUp():
                pass
            case _:
                assert_never(event)

    def _on_training(self, event: events.TrainingEvent, item: Published) -> None:
        del item
        match event:
            case events.TrainingStarted():
                if self.phase in ("paused", *FINISHED_PHASES):
                    self.phase = "running"
                    self._changed("run")
                self._open_round(event.round)
                self.training = (0, 0)
            case events.TrainingFinished() | events.UpdateReused():
                self._open_round(event.round).trained.add(self.name)
                self.training = None
                self._changed("open", "peers")
            case _:
                assert_never(event)

    def _on_aggregation(self, event: events.AggregationEvent, item: Published) -> None:
        if event.round <= self._decided:
            return  # the round is decided: nothing about it changes any more
        opened = self._open_round(event.round)
        match event:
            case events.MembersSelected():
                opened.selected.update(event.names)
            case events.ElectionStarted():
                opened.attempt = event.attempt
            case events.Elected():
                opened.attempt, opened.aggregator, opened.elected_at = (
                    event.attempt,
                    event.aggregator,
                    item.time,
                )
                opened.kind, opened.proposed_at, opened.votes = event.kind, None, event.votes
                opened.counted.clear()
                if event.attempt > FIRST_ATTEMPT and event.kind == "train":
                    self.marks.note("election", opened.round, event.aggregator, item.time)
                    self._changed("rounds")
            case events.UpdateCounted():
                opened.counted.setdefault(event.name, item.time)
            case events.UpdateRefused():
                if len(opened.refused) < MAX_REFUSED:
                    opened.refused[event.name] = event.reason
            case events.Proposed() | events.RecordAccepted():
                opened.proposed_at = opened.proposed_at or item.time
            case events.SteppedDown():
                opened.step_downs += 1
                if opened.aggregator == event.aggregator:
                    opened.aggregator, opened.elected_at = "", None
            case _:
                assert_never(event)
        self._changed("open", "peers")

    # --- parts ----------------------------------------------------------------------------------------------

    def _changed(self, *sections: Section) -> None:
        self.versions.update(sections)

    def _restart(self) -> None:
        """Reset what belonged to an earlier process of the node: a recording may hold several."""
        self.phase, self.ended, self.worker, self.training = "starting", None, None, None
        self.transfers.clear()
        self.addresses = ()
        self._measured_at = None
        self.marks.forget_links()
        for peer in self.peers.values():
            peer.linked, peer.is_me, peer.status = False, False, None
            peer.sent = peer.received = 0

    def _peer(self, name: str) -> Peer:
        peer = self.peers.get(name)
        if peer is None:
            if len(self.peers) >= MAX_PEERS:
                others = [one for one in self.peers.values() if not one.is_me]
                del self.peers[next((one for one in others if not one.linked), others[0]).name]
            peer = self.peers[name] = Peer(name)
            self._changed("peers")
        return peer

    def _identified(
        self, event: events.PeerStatus | events.PeerDeviceInfo | events.PeerLinked | events.PeerLost
    ) -> Peer:
        """Return the peer that *event* names, with the node id that *event* says."""
        peer = self._peer(event.name)
        peer.node = event.node
        self._changed("peers")
        return peer

    @property
    def _open_number(self) -> int:
        """The number of the open training round, or of the last one."""
        return min(self.trained + 1, max(1, self.target_rounds))

    def _mark_link(self, peer: Peer, time: float) -> None:
        """Mark that the link to a member broke or is back; at the end of a run all links break.

        An observer who comes late hears of links that broke long ago, and of the run's first roster, only
        after the decided rounds: so the members are those of the last one.
        """
        if self.marks.has_member(peer.name) and self.run and self.phase not in (*FINISHED_PHASES, "ended"):
            (self.marks.linked if peer.linked else self.marks.lost)(peer.name, self._open_number, time)
            self._changed("rounds")

    def _join(self, event: events.RunJoined, time: float) -> None:
        if event.run != self.run:
            self.rounds, self.marks = Rounds(), Marks(event.members)
            self.trained = 0
            for peer in self.peers.values():
                peer.aggregated = peer.counted = peer.left_out = 0
                peer.score = peer.update = None
        self.run, self.spec, self.members = event.run, event.spec, event.members
        self.measures, self.classes, self.notes = event.measures, event.classes, event.notes
        self.target_rounds = event.spec.rounds
        self.waiting, self.quorum = None, None
        self.control_requests.clear()
        self._decided = event.round
        self.trained = max(self.trained, self.round_of(event.round) if event.round else event.trained or 0)
        last = self.rounds.last
        if event.how == "finished":
            self.phase = "complete" if self.trained >= self.target_rounds else "stopped"
            if self.rounds.numbers()[:1] == [1] and not any(one.updates for one in self.rounds):
                self.phase = "untrained"
        elif last is not None and last.index == event.round and last.then == "pause":
            self.phase = "paused"
        else:
            self.phase = "running"
        self.open = None if event.how == "finished" else self._next_open(time)
        self._set_members(event.members)
        self._changed("run", "rounds", "open", "peers")

    def _set_members(self, members: tuple[str, ...]) -> None:
        for name in members:
            self._peer(name).is_member = True
        for peer in self.peers.values():
            peer.is_member = peer.name in members

    def _open_round(self, index: int) -> OpenRound:
        """Return the open round of record *index*; the first event about a round opens it."""
        if self.open is None or self.open.index < index:
            self.open = OpenRound(index, self.round_of(index))
            self._changed("open")
        return self.open

    def _next_open(self, time: float) -> OpenRound:
        """Return the round after the last decided one; after all training it is the final evaluation."""
        kind: Literal["train", "evaluate"] = "train" if self.trained < self.target_rounds else "evaluate"
        return OpenRound(self._decided + 1, self.trained + 1, kind, opened_at=time)

    def _extend(self, rounds: int, time: float) -> None:
        """Continue a finished run."""
        self.target_rounds = max(self.target_rounds, rounds)
        self.phase = "running"
        self.open = self._next_open(time)
        self._changed("run", "open", "rounds", "peers")

    def _commit(self, event: events.Committed, time: float) -> None:
        seen = self.open if self.open is not None and self.open.index == event.round else None
        if event.run == self.run and event.kind == "train" and self.rounds.get(event.trained) is None:
            self._count_parts(event)
        if event.run == self.run:
            self.rounds.take(event, time, seen)
            if event.kind == "train":
                self.marks.decided(event, event.trained, None if event.is_late else time)
        self.members = event.members
        self.trained, self.target_rounds = event.trained, event.rounds
        self._decided = event.round
        self.training = None
        if self.open is None or self.open.index <= event.round:
            self.open = self._next_open(time)
        if event.then == "end":
            self.open = None
        if event.then != "go":
            self.control_requests.clear()
        if event.then == "pause":
            self.phase = "paused"
        elif self.phase != "ended" and (event.then == "go" or self.phase not in FINISHED_PHASES):
            self.phase = "running"
        self.quorum = None
        self._set_members(event.members)
        self._changed("rounds", "open", "run", "peers")

    def _history(self, row: RoundRow) -> None:
        if self.run and row.run != self.run:
            return
        self.run = self.run or row.run
        number = row.training_round
        if row.kind == "train" or row.trained:
            self._numbering.run = row.run
            self._numbering.note(row.round, number)
        if row.kind == "train":
            self.trained = max(self.trained, number)
            self.marks.decided(row, number, None)
            if self.rounds.get(number) is None:
                self._count_parts(row)
        self.rounds.take_row(row)
        for score in row.scores:
            self._peer(score.name).score = score
        self._changed("rounds", "run", "peers")

    def _count_parts(self, decided: events.Committed | RoundRow) -> None:
        """Add a round to the counts of its members."""
        self._peer(decided.aggregator).aggregated += 1
        for update in decided.updates:
            peer = self._peer(update.name)
            peer.counted += 1
            peer.update = update
        for name, _ in decided.left_out:
            self._peer(name).left_out += 1

    def _measure(self, event: events.Measured, time: float) -> None:
        seconds = time - self._measured_at if self._measured_at is not None else 0.0
        self._measured_at = time
        self.cpu, self.memory = event.cpu, event.memory
        by_node = {peer.node: peer for peer in self.peers.values() if peer.node}
        for link in event.links:
            peer = by_node.get(link.node)
            if peer is not None:
                peer.take_traffic(link, seconds)
        self._changed("traffic")

    def _log(self, item: Published) -> None:
        row = row_of(item)
        if row is not None:
            self.log.append(row)
            self._changed("log")
