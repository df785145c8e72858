"""What a node tells an observer that comes late: of all that happened, what still matters.

Committed rounds come from the journal, also those before this process was started. Here is the rest: the
latest word on each thing, everything of the open round, and the end of the log. It is bounded, however long
the node runs.
"""

from __future__ import annotations

from collections import deque

from p2pfl import events
from p2pfl.events import Published

TAIL = 300
"""Events of the log that a newcomer is told, however old."""

MAX_OF_ROUND = 2000
"""Events of the open round: some for each of 256 members."""

COMMITS = 100
"""Events about the last commits: the journal may be read a little before they are told."""

LIVE = (events.ProgressMade, events.Measured, events.PeerStatus, events.PeerDeviceInfo)
"""Of interest only until the next one of the same thing; no lines of a log."""

LINES = (events.PeerRefused, events.Notice, events.OptionsIgnored, events.Commanded)
"""Nothing but lines of a log: however many, they take no room from what belongs to the open round."""


class Keeper:
    """Keeps what still matters."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, ...], Published] = {}
        self._round: deque[Published] = deque(maxlen=MAX_OF_ROUND)
        self._commits: deque[Published] = deque(maxlen=COMMITS)
        self._tail: deque[Published] = deque(maxlen=TAIL)
        self.run = ""
        """The run the node is in."""

    def take(self, published: Published) -> None:
        """Take note of the next event."""
        event = published.event
        if not isinstance(event, LIVE):
            self._tail.append(published)
        match event:
            case events.RunJoined():
                self.run = event.run
                self._forget("quorum", "wanted", "resumed", "extended", "ended")
                self._end_round()
            case events.Committed():
                self._commits.append(published)
                self._end_round()
                if event.then != "go":
                    self._forget("wanted")
                self._forget("resumed", "extended")
                if event.then != "end":
                    self._forget("ended")
            case events.EvaluationFinished() | events.RosterChanged():
                self._commits.append(published)
            case events.RunExtended():
                self._forget("ended")
        key = _key(event)
        if key is not None:
            self._latest[key] = published
        elif not isinstance(event, (events.Committed, *LINES)):
            self._round.append(published)

    def told(self) -> list[Published]:
        """Return what a newcomer is told, each event once, in order."""
        kept = [*self._latest.values(), *self._round, *self._commits, *self._tail]
        return [kept for _, kept in sorted({published.seq: published for published in kept}.items())]

    def _end_round(self) -> None:
        self._round.clear()
        self._forget("progress")

    def _forget(self, *kinds: str) -> None:
        for key in [key for key in self._latest if key[0] in kinds]:
            del self._latest[key]


def _key(event: events.AnyEvent) -> tuple[str, ...] | None:
    """Return what *event* is the latest word on; None where later events do not make it void."""
    match event:
        case events.Started() | events.WorkerReady() | events.RunJoined() | events.DataShown():
            return (type(event).__name__,)
        case events.Waiting() | events.Measured() | events.Ended():
            return (type(event).__name__,)
        case events.ProgressMade():
            return "progress", event.what, event.peer
        case events.PeerLinked() | events.PeerLost():
            return "link", event.node
        case events.AddressFailed():
            return "address", event.address
        case events.PeerStatus() | events.PeerDeviceInfo() | events.PeerLeaving():
            return type(event).__name__, event.node
        case events.QuorumLost() | events.QuorumBack():
            return ("quorum",)
        case events.ControlRequested():
            return "wanted", event.what
        case events.Resumed():
            return ("resumed",)
        case events.RunExtended():
            return ("extended",)
        case events.RunEnded():
            return ("ended",)
        case _:
            return None
