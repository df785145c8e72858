"""Folds the events of a demo's nodes into lines, each printed once, and into what every node is doing.

All nodes see a commit and write it down; people want to read it once. No file is read and nothing is drawn
here, so that the lines can be tested event by event.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import assert_never

import msgspec

from p2pfl import events
from p2pfl.events import Published
from p2pfl.fold import EventFold
from p2pfl.observe.render import evaluation, line_of
from p2pfl.spec import describe_run
from p2pfl.text import plural

SHADES = "▁▂▃▄▅▆▇█"
"""A bar of each height, for how often a label occurs."""

Line = tuple[str, str]
"""A mark of one character, and a text."""


class Story:
    """What is known of a federation from its nodes' events. `take` them in the order of their times."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.views = {name: NodeView(name, self) for name in names}
        self.addresses: dict[str, str] = {}
        """Where each node listens, by name."""
        self.rounds = 0
        """Number of rounds the run is to train."""
        self.round = 0
        """The last committed round."""
        self.primary = "accuracy"
        """The name of the run's primary metric."""
        self.value: float | None = None
        """That metric of the last evaluated round."""
        self.is_provisional = False
        """Whether that value is only reported so far."""
        self.notes: set[str] = set()
        """Notes about the data, which every node tells and which are printed once."""
        self.members: tuple[str, ...] = ()
        """The roster's names."""
        self.complete: set[str] = set()
        """Nodes that have the final model."""
        self._lines: list[Line] = []
        """Lines to print about the event that is being taken."""
        self._printed: set[Hashable] = set()
        """The keys of all lines so far."""
        self._scores: dict[int, events.EvaluationFinished] = {}
        """The best evaluations known, by training round: committed ones, else those of the most members."""
        self._printed_scores: dict[int, tuple[float | None, int]] = {}
        """Primary metric and samples printed last, by training round."""
        self._settled: set[int] = set()
        """Rounds whose committed evaluations are known."""

    def take(self, name: str, item: Published) -> list[Line]:
        """Take an event of node *name*; return the lines to print about it."""
        self._lines = []
        self.views[name].fold(item)
        return self._lines

    def forget(self, name: str) -> None:
        """Forget what node *name* was doing: it is started again."""
        self.views[name] = NodeView(name, self)
        self.complete.discard(name)
        self.addresses.pop(name, None)

    def needed(self) -> int:
        """Return how many members must live for the run to go on; 0 before it began."""
        return len(self.members) // 2 + 1 if self.members else 0

    # --- for the views of its nodes -------------------------------------------------------------------------

    def print_once(self, key: Hashable, line: Line | None) -> None:
        """Print *line*, unless one with the same *key* was printed."""
        if line is not None and key not in self._printed:
            self._printed.add(key)
            self._lines.append(line)

    def may_repeat(self, key: Hashable) -> None:
        """Let a line with *key* be printed once more."""
        self._printed.discard(key)

    def note_evaluation(self, event: events.EvaluationFinished, number: int) -> None:
        """Keep an evaluation of round *number*, and print it if it is news.

        What all members reported of a round is printed, and what is committed where it is anything else.
        """
        known = self._scores.get(number)
        if event.committed or known is None or (not known.committed and event.reports >= known.reports):
            self._scores[number] = event
        if number == max(self._scores):
            best = self._scores[number]
            self.value, self.is_provisional = best.primary_value, not best.committed
        printed, result = self._printed_scores.get(number), (event.primary_value, event.examples)
        if number in self._settled or (not event.committed and (printed or event.reports < event.members)):
            return
        if event.committed:
            self._settled.add(number)
        if printed != result:
            self._printed_scores[number] = result
            event = msgspec.structs.replace(event, reported=printed[0] if printed is not None else None)
            self._lines.append(("◎", evaluation(event, number)))

    def print_late_score(self, number: int) -> None:
        """Print what some members reported of round *number*: it is over, and not all will report."""
        score = self._scores.get(number)
        if score is not None and number not in self._printed_scores:
            self._printed_scores[number] = score.primary_value, score.examples
            self._lines.append(("◎", evaluation(score, number)))


class NodeView(EventFold):
    """What one node does, as the screen shows it; what concerns all nodes goes to the story."""

    def __init__(self, name: str, story: Story) -> None:
        self.doing = "starting"
        self.round = 0
        self.share: float | None = None
        """Share of the local training that is done; None while it does not train."""
        self.shape = ""
        """How its data are distributed over the labels."""
        self.examples = 0
        self.is_aggregator = False
        self.counted = 0
        """Updates it has counted as aggregator of the round."""
        self._name = name
        self._story = story

    def _on_live(self, event: events.LiveEvent, item: Published) -> None:
        del item
        match event:
            case events.ProgressMade():
                if event.what == "train" and self.share is not None:
                    self.share = event.done / max(1, event.total)
            case events.Measured() | events.PeerStatus() | events.PeerDeviceInfo() | events.AddressStates():
                pass
            case _:
                assert_never(event)

    def _on_log(self, event: events.LogEvent, item: Published) -> None:
        match event:
            case events.Notice() if event.text in self._story.notes:
                self._print(("note", event.text), item)
            case events.Notice():
                if event.level != "info":
                    self._print_own(item)
            case events.OptionsIgnored() | events.PeerRefused():
                self._print_own(item)
            case events.Commanded():
                pass
            case _:
                assert_never(event)

    def _on_node(self, event: events.NodeEvent, item: Published) -> None:
        match event:
            case events.Started():
                self.doing = "loading torch"
                self._story.addresses[self._name] = event.address.split(", ", 1)[0]
            case events.WorkerReady():
                self.doing = "ready"
            case events.CertificateChanged():
                pass
            case events.WorkerFailed():
                self._print_own(item)
            case events.DataShown():
                self.shape, self.examples = shape_of(event.labels), event.part.examples
                by_class = f", by class |{self.shape}|" if sum(event.labels) else ""
                noun = plural(self.examples, "example")
                text = f"{self._name} holds {self.examples} {noun}{by_class}"
                self._story.print_once((self._name, event), ("·", text))
            case events.Waiting():
                if event.is_mismatch:
                    self._print_own(item)
            case events.Ended():
                self.doing, self.share, self.is_aggregator = f"ended ({event.code})", None, False
            case _:
                assert_never(event)

    def _on_peer(self, event: events.PeerEvent, item: Published) -> None:
        match event:
            case events.PeerLinked():
                self._story.may_repeat(("lost", event.name))
            case events.PeerLost():
                if not self._story.complete:
                    self._print(("lost", event.name), item)
            case events.PeerLeaving() | events.MemberExcluded() | events.AddressFailed():
                pass
            case _:
                assert_never(event)

    def _on_run(self, event: events.RunEvent, item: Published) -> None:
        story, number = self._story, _number(item)
        match event:
            case events.RunJoined():
                story.rounds = max(story.rounds, event.spec.rounds)
                story.primary = event.measures.primary
                story.notes.update(event.notes)
                if number >= story.round:
                    story.round, story.members = number, event.members
                story.print_once(("run", event.run), ("·", _joined(event, number)))
            case events.RunExtended():
                self._print(("extended", event.rounds), item)
            case events.CaughtUp():
                self._print_own(item)
            case events.QuorumLost():
                self.doing = "paused: no quorum"
                self._print(("quorum", event.round, event.reachable), item)
            case events.QuorumBack():
                self._print(("quorum back", event.round, event.reachable), item)
            case events.ControlRequested() | events.Resumed():
                pass
            case events.Committed():
                self.doing, self.round = "committed", event.trained
                self.share, self.is_aggregator = None, False
                if event.trained >= story.round:
                    story.round, story.members = event.trained, event.members
                story.print_late_score(event.trained - (event.kind == "train"))
                if not event.is_late:
                    self._print(("committed", event.round, event.record), item)
            case events.RosterChanged():
                self._print(("roster", event.round), item)
            case events.EvaluationFinished():
                story.note_evaluation(event, number)
            case events.RunEnded():
                self.doing, self.share = ("complete" if event.is_trained else "ended untrained"), None
                story.complete.add(self._name)
                story.rounds = max(story.rounds, event.rounds)
                story.print_late_score(story.round)
                self._print(("end", event.run, event.rounds), item)
            case _:
                assert_never(event)

    def _on_training(self, event: events.TrainingEvent, item: Published) -> None:
        match event:
            case events.TrainingStarted():
                self.doing, self.round, self.share = "training", _number(item), 0.0
            case events.TrainingFinished() | events.UpdateReused():
                self.doing, self.round, self.share = "trained", _number(item), None
            case _:
                assert_never(event)

    def _on_aggregation(self, event: events.AggregationEvent, item: Published) -> None:
        match event:
            case events.MembersSelected() | events.ElectionStarted():
                pass
            case events.Elected():
                self.is_aggregator, self.counted = event.aggregator == self._name, 0
                self._print(("elected", event.round, event.attempt, event.node), item)
            case events.UpdateCounted():
                self.counted += self.is_aggregator
                if self.is_aggregator and self.share is None:
                    self.doing = f"aggregating, {self.counted} updates"
            case events.UpdateRefused():
                self._print(("refused", event.round, event.name), item)
            case events.Proposed():
                self.doing = "proposed the new model"
            case events.RecordAccepted():
                self.doing = "accepted the new model"
            case events.SteppedDown():
                self._print(("stepped down", event.round, event.attempt, event.aggregator), item)
            case _:
                assert_never(event)

    def _print(self, key: Hashable, item: Published) -> None:
        """Print the line of an event that all nodes report; *key* is the same in all reports."""
        self._story.print_once(key, line_of(item.event, _number(item)))

    def _print_own(self, item: Published) -> None:
        """Print the line of an event that concerns only this node, with its name."""
        line = line_of(item.event, _number(item))
        if line is not None:
            self._story.print_once((self._name, item.event), (line[0], f"{self._name}: {line[1]}"))


def _number(item: Published) -> int:
    """Return the training round that an event is about, or the place of its record in the chain."""
    return item.training_round if item.training_round is not None else getattr(item.event, "round", 0)


def shape_of(labels: tuple[int, ...]) -> str:
    """Draw how often each label occurs, one character a label, blank where it does not."""
    most = max(labels, default=0)
    return "".join(SHADES[(count * len(SHADES) - 1) // most] if count else " " for count in labels)


def _joined(event: events.RunJoined, number: int) -> str:
    spec = event.spec
    state = {"resumed": f", goes on after round {number}", "finished": " has ended in this folder"}
    return (
        f"run {event.run[:7]}{state.get(event.how, '')}: {describe_run(spec)}; "
        f"{spec.rounds} rounds of {spec.training.epochs} epochs"
    )
