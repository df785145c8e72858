"""The demo's story: events of several nodes folded into lines, each told once, and what every node does.

It reads no file and draws nothing, so that what is told can be tested event by event. All nodes see a commit
and all write it down; people want to read it once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from p2pfl import events
from p2pfl.observe.render import line_of

SHADES = "▁▂▃▄▅▆▇█"
"""A bar of each height, for how often a label occurs."""

Line = tuple[str, str]
"""A mark of one character, and what is told."""


@dataclass
class NodeView:
    """What one node does, as the screen shows it."""

    doing: str = "starting"
    round: int = 0
    share: float | None = None
    """Of the local training that is done; None while it does not train."""
    shape: str = ""
    """How its data are distributed over the labels."""
    samples: int = 0
    is_aggregator: bool = False
    counted: int = 0
    """Updates it has counted as aggregator of the round."""


@dataclass
class Story:
    """What is known of a federation from its nodes' events. `take` them in the order of their times."""

    names: tuple[str, ...]
    views: dict[str, NodeView] = field(init=False)
    addresses: dict[str, str] = field(default_factory=dict)
    """Where each node listens, by name."""
    rounds: int = 0
    """The run is to train."""
    round: int = 0
    """The last committed one."""
    accuracy: float | None = None
    """Of the last evaluated round."""
    members: tuple[str, ...] = ()
    """The roster's names."""
    complete: set[str] = field(default_factory=set)
    """Nodes that have the final model."""
    _told: set[Hashable] = field(default_factory=set)
    _scores: dict[int, events.Evaluated] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.views = {name: NodeView() for name in self.names}

    def take(self, name: str, event: events.AnyEvent) -> list[Line]:
        """Take an event of node *name*; return what is to be told about it."""
        self._note(name, event)
        _observe(self.views[name], name, event)
        lines: list[Line] = []
        if isinstance(event, events.Committed | events.RunEnded):
            lines += self._late_score(event)
        key = self._key(name, event)
        if key is None or key in self._told:
            return lines
        line = _line(name, event)
        if line is not None:
            self._told.add(key)
            lines.append(line)
        return lines

    def forget(self, name: str) -> None:
        """Forget what node *name* was doing: it is started again."""
        self.views[name] = NodeView()
        self.complete.discard(name)
        self.addresses.pop(name, None)

    def _note(self, name: str, event: events.AnyEvent) -> None:
        """Keep what concerns the whole federation."""
        match event:
            case events.Started():
                self.addresses[name] = event.address.split(", ", 1)[0]
            case events.RunJoined():
                self.rounds = max(self.rounds, event.spec.rounds)
                if event.round >= self.round:
                    self.round, self.members = event.round, event.members
            case events.Committed() if event.round > self.round:
                self.round, self.members = event.round, event.members
            case events.Evaluated():
                known = self._scores.get(event.round)
                if known is None or event.reports >= known.reports:
                    self._scores[event.round] = event
                if event.round == max(self._scores):
                    self.accuracy = self._scores[event.round].accuracy
            case events.RunEnded():
                self.complete.add(name)
                self.rounds = max(self.rounds, event.rounds)
            case events.PeerLinked():
                if ("lost", event.name) in self._told:
                    self._told -= {("lost", event.name), ("back", event.name)}

    def _late_score(self, event: events.Committed | events.RunEnded) -> list[Line]:
        """Tell the accuracy of a round of which not all members reported, when the next one is decided."""
        before = self.round - 1 if isinstance(event, events.Committed) else self.round
        score = self._scores.get(before)
        if score is None or ("score", before) in self._told:
            return []
        self._told.add(("score", before))
        return [
            (
                "◎",
                f"round {before}: accuracy {score.accuracy:.4f}, loss {score.loss:.4f} "
                f"on {score.samples} samples "
                f"({score.reports} of {score.members} members)",
            )
        ]

    def _key(self, name: str, event: events.AnyEvent) -> Hashable | None:
        """Return what two reports of the same thing have in common; None for what is not told."""
        match event:
            case events.RunJoined():
                return "run", event.run
            case events.Elected():
                return "elected", event.round, event.attempt, event.node
            case events.Committed():
                return "committed", event.round, event.record
            case events.Evaluated() if event.reports == event.members or event.committed:
                return "score", event.round
            case events.RosterChanged():
                return "roster", event.round
            case events.QuorumLost():
                return "quorum", event.round, event.reachable
            case events.QuorumBack():
                return "quorum back", event.round, event.reachable
            case events.UpdateRefused():
                return "refused", event.round, event.name
            case events.Yielded():
                return "yielded", event.round, event.attempt, event.aggregator
            case events.PeerLost() if not self.complete:
                return "lost", event.name
            case events.RunEnded():
                return "end", event.run, event.rounds
            case events.WorkerFailed() | events.OptionsIgnored() | events.DataShown() | events.PeerRefused():
                return name, event
            case events.Notice() if event.level != "info":
                return name, event
            case _:
                return None

    def needed(self) -> int:
        """Return how many members must live for the run to go on; 0 before it began."""
        return len(self.members) // 2 + 1 if self.members else 0


def shape_of(labels: tuple[int, ...]) -> str:
    """Draw how often each label occurs, one character a label, blank where it does not."""
    most = max(labels, default=0)
    return "".join(SHADES[(count * len(SHADES) - 1) // most] if count else " " for count in labels)


def _line(name: str, event: events.AnyEvent) -> Line | None:
    """Return what is told about *event* of node *name*."""
    if isinstance(event, events.DataShown):
        return "·", f"{name} holds {sum(event.labels)} samples, by label |{shape_of(event.labels)}|"
    if isinstance(event, events.RunJoined):
        return "·", _joined(event)
    line = line_of(event)
    if line is None:
        return None
    if isinstance(event, events.WorkerFailed | events.OptionsIgnored | events.Notice | events.PeerRefused):
        return line[0], f"{name}: {line[1]}"
    return line


def _joined(event: events.RunJoined) -> str:
    spec = event.spec
    state = {"resumed": f", goes on after round {event.round}", "finished": " is complete in this folder"}
    return (
        f"run {event.run[:7]}{state.get(event.how, '')}: {spec.task}/{spec.model}, {spec.rounds} rounds of "
        f"{spec.epochs} epochs, {spec.partition}"
    )


def _observe(view: NodeView, name: str, event: events.AnyEvent) -> None:  # noqa: C901 - a flat table
    """Bring *view*, of node *name*, up to date with *event* of that node."""
    match event:
        case events.Started():
            view.doing = "loading torch"
        case events.WorkerReady():
            view.doing = "ready"
        case events.DataShown():
            view.shape, view.samples = shape_of(event.labels), sum(event.labels)
        case events.TrainingStarted():
            view.doing, view.round, view.share = "training", event.round, 0.0
        case events.Progress() if event.what == "train" and view.share is not None:
            view.share = event.done / max(1, event.total)
        case events.Trained() | events.UpdateReused():
            view.doing, view.round, view.share = "trained", event.round, None
        case events.Elected():
            view.is_aggregator, view.counted = event.aggregator == name, 0
        case events.UpdateCounted() if view.is_aggregator:
            view.counted += 1
            if view.share is None:
                view.doing = f"aggregating, {view.counted} updates"
        case events.Proposed():
            view.doing = "proposed the new model"
        case events.Accepted():
            view.doing = "accepted the new model"
        case events.Committed():
            view.doing, view.round, view.share, view.is_aggregator = "committed", event.round, None, False
        case events.QuorumLost():
            view.doing = "paused: no quorum"
        case events.RunEnded():
            view.doing, view.share = "complete", None
        case events.Ended():
            view.doing, view.share, view.is_aggregator = f"ended ({event.code})", None, False
