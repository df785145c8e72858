"""Keeps the events that a new observer needs: a compacted log of bounded size.

It has the latest event per key, all events of the open round, and the last events of the log. Committed
rounds are not kept here: observers get them from the journal, which also has those of earlier processes.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from p2pfl import events
from p2pfl.events import Published
from p2pfl.fold import EventFold

TAIL = 300
"""Maximum number of last events of the log."""

MAX_OF_ROUND = 2000
"""Maximum number of events of the open round: several for each of 256 members."""

COMMITS = 100
"""Maximum number of events about the last commits: the journal may have been read just before them."""


class CompactedEvents(EventFold):
    """Compacts events: pass every event to `take`; `kept` returns the compacted log."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, ...], Published] = {}
        self._round: deque[Published] = deque(maxlen=MAX_OF_ROUND)
        self._commits: deque[Published] = deque(maxlen=COMMITS)
        self._tail: deque[Published] = deque(maxlen=TAIL)
        self.run = ""
        """The id of the node's run; empty: none."""

    def take(self, item: Published) -> None:
        """Take the next event."""
        if not isinstance(item.event, events.LiveEvent):
            self._tail.append(item)
        self.fold(item)

    def kept(self) -> list[Published]:
        """Return the kept events, each once, in order."""
        kept = [*self._latest.values(), *self._round, *self._commits, *self._tail]
        return [item for _, item in sorted({item.seq: item for item in kept}.items())]

    def _on_live(self, event: events.LiveEvent, item: Published) -> None:
        match event:
            case events.ProgressMade():
                self._latest["progress", event.what, event.peer] = item
            case events.Measured():
                self._latest["measured",] = item
            case events.PeerStatus():
                self._latest["status", event.node] = item
            case events.PeerDeviceInfo():
                self._latest["device", event.node] = item
            case events.AddressStates():
                self._latest["addresses",] = item
            case _:
                assert_never(event)

    def _on_log(self, event: events.LogEvent, item: Published) -> None:
        del event, item  # it is among the last events of the log

    def _on_node(self, event: events.NodeEvent, item: Published) -> None:
        match event:
            case events.Started() | events.CertificateChanged() | events.WorkerReady() | events.DataShown():
                self._latest[type(event).__name__,] = item
            case events.Waiting() | events.Ended():
                self._latest[type(event).__name__,] = item
            case events.WorkerFailed():
                self._round.append(item)
            case _:
                assert_never(event)

    def _on_peer(self, event: events.PeerEvent, item: Published) -> None:
        match event:
            case events.PeerLinked() | events.PeerLost():
                self._latest["link", event.node] = item
            case events.PeerLeaving():
                self._latest["leaving", event.node] = item
            case events.MemberExcluded():
                self._latest["excluded", event.node] = item
            case events.AddressFailed():
                pass  # it is among the last events of the log, and `AddressStates` has what holds now
            case _:
                assert_never(event)

    def _on_run(self, event: events.RunEvent, item: Published) -> None:
        match event:
            case events.RunJoined():
                self.run = event.run
                self._forget("quorum", "wanted", "resumed", "extended", "run ended")
                self._end_round()
                self._latest["run",] = item
            case events.RunExtended():
                self._forget("run ended")
                self._latest["extended",] = item
            case events.QuorumLost() | events.QuorumBack():
                self._latest["quorum",] = item
            case events.ControlRequested():
                self._latest["wanted", event.what] = item
            case events.Resumed():
                self._latest["resumed",] = item
            case events.Committed():
                self._commit(event, item)
            case events.EvaluationFinished() | events.RosterChanged():
                self._commits.append(item)
                self._round.append(item)
            case events.RunEnded():
                self._latest["run ended",] = item
            case events.CaughtUp():
                self._round.append(item)
            case _:
                assert_never(event)

    def _on_training(self, event: events.TrainingEvent, item: Published) -> None:
        del event
        self._round.append(item)

    def _on_aggregation(self, event: events.AggregationEvent, item: Published) -> None:
        del event
        self._round.append(item)

    def _commit(self, event: events.Committed, item: Published) -> None:
        self._commits.append(item)
        self._end_round()
        self._forget("resumed", "extended")
        if event.then != "go":
            self._forget("wanted")
        if event.then != "end":
            self._forget("run ended")

    def _end_round(self) -> None:
        self._round.clear()
        self._forget("progress")

    def _forget(self, *kinds: str) -> None:
        for key in [key for key in self._latest if key[0] in kinds]:
            del self._latest[key]
