"""The demo's story: events of several nodes folded into lines, each told once, and what every node does.

It reads no file and draws nothing, so that what is told can be tested event by event. All nodes see a commit
and all write it down; people want to read it once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import msgspec

from p2pfl import events
from p2pfl.observe.render import evaluation, line_of

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
    is_provisional: bool = False
    """Whether that accuracy is only reported so far."""
    members: tuple[str, ...] = ()
    """The roster's names."""
    complete: set[str] = field(default_factory=set)
    """Nodes that have the final model."""
    _told: set[Hashable] = field(default_factory=set)
    _scores: dict[int, events.EvaluationFinished] = field(default_factory=dict)
    """The best evaluations known, by training round: committed ones, else those of the most members."""
    _told_scores: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Accuracy and samples told last, by training round."""
    _settled: set[int] = field(default_factory=set)
    """Rounds whose committed evaluations are known."""

    def __post_init__(self) -> None:
        self.views = {name: NodeView() for name in self.names}

    def take(self, name: str, event: events.AnyEvent, training_round: int | None = None) -> list[Line]:
        """Take an event of node *name*, about *training_round* if any; return what is to be told about it."""
        number = training_round if training_round is not None else getattr(event, "round", 0)
        self._note(name, event, number)
        _observe(self.views[name], name, event, number)
        lines: list[Line] = []
        if isinstance(event, events.Committed | events.RunEnded):
            lines += self._late_score(event)
        if isinstance(event, events.EvaluationFinished):
            return self._score(event, number)
        key = self._key(name, event)
        if key is None or key in self._told:
            return lines
        line = _line(name, event, number)
        if line is not None:
            self._told.add(key)
            lines.append(line)
        return lines

    def forget(self, name: str) -> None:
        """Forget what node *name* was doing: it is started again."""
        self.views[name] = NodeView()
        self.complete.discard(name)
        self.addresses.pop(name, None)

    def _note(self, name: str, event: events.AnyEvent, number: int) -> None:
        """Keep what concerns the whole federation."""
        match event:
            case events.Started():
                self.addresses[name] = event.address.split(", ", 1)[0]
            case events.RunJoined():
                self.rounds = max(self.rounds, event.spec.rounds)
                if number >= self.round:
                    self.round, self.members = number, event.members
            case events.Committed() if event.trained >= self.round:
                self.round, self.members = event.trained, event.members
            case events.EvaluationFinished():
                known = self._scores.get(number)
                if (
                    event.committed
                    or known is None
                    or (not known.committed and event.reports >= known.reports)
                ):
                    self._scores[number] = event
                if number == max(self._scores):
                    best = self._scores[number]
                    self.accuracy, self.is_provisional = best.accuracy, not best.committed
            case events.RunEnded():
                self.complete.add(name)
                self.rounds = max(self.rounds, event.rounds)
            case events.PeerLinked():
                if ("lost", event.name) in self._told:
                    self._told -= {("lost", event.name), ("back", event.name)}

    def _score(self, event: events.EvaluationFinished, number: int) -> list[Line]:
        """Tell what all members reported of a round, and what is committed where it is anything else."""
        told, result = self._told_scores.get(number), (event.accuracy, event.samples)
        if number in self._settled or (not event.committed and (told or event.reports < event.members)):
            return []
        if event.committed:
            self._settled.add(number)
        if told == result:
            return []
        self._told_scores[number] = result
        reported = told[0] if told is not None else None
        return [("◎", evaluation(msgspec.structs.replace(event, reported=reported), number))]

    def _late_score(self, event: events.Committed | events.RunEnded) -> list[Line]:
        """Tell what some members reported of a round when the next one is decided, or the run is over."""
        before = self.round
        if isinstance(event, events.Committed):
            before = event.trained - (event.kind == "train")
        score = self._scores.get(before)
        if score is None or before in self._told_scores:
            return []
        self._told_scores[before] = score.accuracy, score.samples
        return [("◎", evaluation(score, before))]

    def _key(self, name: str, event: events.AnyEvent) -> Hashable | None:
        """Return what two reports of the same thing have in common; None for what is not told."""
        match event:
            case events.RunJoined():
                return "run", event.run
            case events.Elected():
                return "elected", event.round, event.attempt, event.node
            case events.Committed() if not event.is_late:
                return "committed", event.round, event.record
            case events.RunExtended():
                return "extended", event.rounds
            case events.CaughtUp():
                return name, event
            case events.RosterChanged():
                return "roster", event.round
            case events.QuorumLost():
                return "quorum", event.round, event.reachable
            case events.QuorumBack():
                return "quorum back", event.round, event.reachable
            case events.UpdateRefused():
                return "refused", event.round, event.name
            case events.SteppedDown():
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


def _line(name: str, event: events.AnyEvent, number: int) -> Line | None:
    """Return what is told about *event* of node *name*."""
    if isinstance(event, events.DataShown):
        return "·", f"{name} holds {sum(event.labels)} samples, by label |{shape_of(event.labels)}|"
    if isinstance(event, events.RunJoined):
        return "·", _joined(event, number)
    line = line_of(event, number)
    if line is None:
        return None
    if isinstance(
        event,
        events.WorkerFailed | events.OptionsIgnored | events.Notice | events.PeerRefused | events.CaughtUp,
    ):
        return line[0], f"{name}: {line[1]}"
    return line


def _joined(event: events.RunJoined, number: int) -> str:
    spec = event.spec
    state = {"resumed": f", goes on after round {number}", "finished": " has ended in this folder"}
    return (
        f"run {event.run[:7]}{state.get(event.how, '')}: {spec.task}/{spec.model}, {spec.rounds} rounds of "
        f"{spec.epochs} epochs, {spec.partition}"
    )


def _observe(view: NodeView, name: str, event: events.AnyEvent, number: int) -> None:  # noqa: C901 - a flat table
    """Bring *view*, of node *name*, up to date with *event* of that node."""
    match event:
        case events.Started():
            view.doing = "loading torch"
        case events.WorkerReady():
            view.doing = "ready"
        case events.DataShown():
            view.shape, view.samples = shape_of(event.labels), sum(event.labels)
        case events.TrainingStarted():
            view.doing, view.round, view.share = "training", number, 0.0
        case events.ProgressMade() if event.what == "train" and view.share is not None:
            view.share = event.done / max(1, event.total)
        case events.TrainingFinished() | events.UpdateReused():
            view.doing, view.round, view.share = "trained", number, None
        case events.Elected():
            view.is_aggregator, view.counted = event.aggregator == name, 0
        case events.UpdateCounted() if view.is_aggregator:
            view.counted += 1
            if view.share is None:
                view.doing = f"aggregating, {view.counted} updates"
        case events.Proposed():
            view.doing = "proposed the new model"
        case events.RecordAccepted():
            view.doing = "accepted the new model"
        case events.Committed():
            view.doing, view.round, view.share, view.is_aggregator = "committed", event.trained, None, False
        case events.QuorumLost():
            view.doing = "paused: no quorum"
        case events.RunEnded():
            view.doing, view.share = ("complete" if event.is_trained else "ended untrained"), None
        case events.Ended():
            view.doing, view.share, view.is_aggregator = f"ended ({event.code})", None, False
