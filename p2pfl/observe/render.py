"""Renders events as lines of text for people; an event without interest by itself has no line.

Names and reasons come from peers and are untrusted: characters that are not printable are removed and lines
are bounded here, for all callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from p2pfl import events
from p2pfl.cards import metric_text
from p2pfl.events import Published
from p2pfl.spec import describe_run
from p2pfl.statements import exclusions_in
from p2pfl.text import one_line, plural
from p2pfl.times import show_timestamp

MAX_LINE = 400
"""Characters of a line: reasons are bounded on the wire, but lists of names are not."""

Level = Literal["info", "good", "warning", "error"]

_LEVELS: dict[str, Level] = {"!": "warning", "✗": "error", "✓": "good", "◎": "good", "★": "good"}
"""The level of each mark; "info" for the others."""


@dataclass(frozen=True)
class LogRow:
    """One line of the log."""

    seq: int
    time: float
    level: Level
    mark: str
    peer: str
    """The peer it is about; empty for the run as a whole."""
    kind: str
    """The event's tag."""
    text: str


def line_of(event: events.AnyEvent, training_round: int | None = None) -> tuple[str, str] | None:
    """Return a mark (one character) and a line for *event*; None if it has no line.

    *training_round* is the event's training round (`Published.training_round`); without it the line shows the
    number of the record.
    """
    number = training_round if training_round is not None else getattr(event, "round", 0)
    rendered = _rendered(event, number)
    return (rendered[0], one_line(rendered[1], MAX_LINE)) if rendered is not None else None


def row_of(item: Published) -> LogRow | None:
    """Return the log row for *item*; None if it has no line."""
    line = line_of(item.event, item.training_round)
    if line is None:
        return None
    mark, text = line
    peer = getattr(item.event, "name", "") or getattr(item.event, "aggregator", "")
    kind = type(item.event).__struct_config__.tag
    return LogRow(item.seq, item.time, _LEVELS.get(mark, "info"), mark, peer, str(kind), text)


def _rendered(event: events.AnyEvent, number: int) -> tuple[str, str] | None:
    """Return mark and text for *event*, whose round is shown as *number*; None if it has no line."""
    if isinstance(event, events.LiveEvent):
        return None
    if isinstance(event, events.LogEvent):
        return _of_log(event)
    if isinstance(event, events.NodeEvent):
        return _of_node(event)
    if isinstance(event, events.PeerEvent):
        return _of_peer(event)
    if isinstance(event, events.RunEvent):
        return _of_run(event, number)
    if isinstance(event, events.TrainingEvent):
        return _of_training(event, number)
    if isinstance(event, events.AggregationEvent):
        return _of_aggregation(event, number)
    assert_never(event)


def _of_log(event: events.LogEvent) -> tuple[str, str] | None:
    match event:
        case events.Notice():
            return {"info": "·", "warning": "!", "error": "✗"}[event.level], event.text
        case events.Commanded():
            outcome = f"refused: {event.refused}" if event.refused else "done"
            return ("!" if event.refused else "·"), f"{event.who} commands {event.what}: {outcome}"
        case events.OptionsIgnored():
            return "!", f"options ignored, the run has the founder's: {', '.join(event.differences)}"
        case events.PeerRefused():
            return "!", f"connection with {event.address} refused: {event.reason}"
        case _:
            assert_never(event)


def _of_node(event: events.NodeEvent) -> tuple[str, str] | None:
    match event:
        case events.Started():
            return "·", (
                f"{event.name} ({event.node[:7]}) of federation {event.federation} listens on "
                f"{event.address}, ready for peers after {event.seconds:.2f} s"
            )
        case events.CertificateChanged():
            until = show_timestamp(event.not_after)
            return ("·", f"certificate {event.how}, until {until}") if event.how else None
        case events.WorkerReady():
            noun = plural(event.examples, "training example")
            examples = f"{event.examples} {noun} in all, " if event.examples else ""
            return "·", (
                f"worker ready after {event.seconds:.1f} s: task {event.task} on {event.device}, "
                f"{examples}{event.parameters:,} parameters"
            )
        case events.WorkerFailed():
            return "!", f"worker restarts: {event.reason}"
        case events.DataShown():
            return "·", _shown(event)
        case events.Waiting():
            if event.is_mismatch:
                return "!", f"the run cannot begin: {event.reason}"
            return None if event.is_known else ("·", f"waiting: {event.reason}")
        case events.Ended():
            return ("·" if event.code == 0 else "✗"), f"ended: {event.reason}"
        case _:
            assert_never(event)


def _of_peer(event: events.PeerEvent) -> tuple[str, str] | None:
    match event:
        case events.PeerLinked():
            return "+", f"{event.name} ({event.node[:7]}) linked, at {event.address}"
        case events.PeerLost():
            return "-", f"{event.name} ({event.node[:7]}) lost: {event.reason}"
        case events.PeerLeaving():
            return "-", f"{event.name} is leaving with the next commit"
        case events.MemberExcluded():
            return "!" if event.is_held else "-", f"{event.name} ({event.node[:7]}) {event.text}"
        case events.AddressFailed():
            return _of_address(event)
        case _:
            assert_never(event)


def _of_address(event: events.AddressFailed) -> tuple[str, str]:
    if not event.reason:
        return "+", f"{event.address} is reached now"
    what = (
        f"connection with {event.address} refused" if event.is_refused else f"{event.address} is not reached"
    )
    again = f"; the next try is in {max(1, round(event.delay))} s" if event.delay else ""
    return "!", f"{what}: {event.reason.rstrip('.')}{again}"


def _of_run(event: events.RunEvent, number: int) -> tuple[str, str] | None:
    match event:
        case events.RunJoined():
            return "·", _joined(event, number)
        case events.RunExtended():
            return "·", f"the run goes on to {event.rounds} rounds{_by(event.by)}"
        case events.CaughtUp():
            return "·", f"caught up with {_missed(event)}, from {event.source}"
        case events.QuorumLost():
            return "!", (
                f"{_round(event, number)} pauses: {event.reachable} of {event.members} members reachable, "
                f"{event.needed} needed"
            )
        case events.QuorumBack():
            return "·", (
                f"{_round(event, number)} goes on: {event.reachable} of {event.members} members reachable"
            )
        case events.ControlRequested():
            return "·", _control_request(event)
        case events.Resumed():
            return "·", f"the run goes on after round {number}{_by(event.by)}"
        case events.Committed():
            return None if event.is_late else ("✓", _committed(event))
        case events.RosterChanged():
            changes = [f"joined: {', '.join(event.joined)}"] if event.joined else []
            changes += [f"left: {', '.join(event.left)}"] if event.left else []
            return "·", (
                f"{event.members} members after round {number} ({'; '.join(changes)}); with all of them "
                f"here the loss of {event.tolerates or 'none'} is tolerated"
            )
        case events.EvaluationFinished():
            return _evaluated(event, number)
        case events.RunEnded():
            return _ended(event)
        case _:
            assert_never(event)


def _shown(event: events.DataShown) -> str:
    """Say on what this node trains: a part of a public data set, or its own data."""
    part = event.part
    counts = " ".join(f"{one_line(one.label)}:{one.examples}" for one in part.labels)
    which = f"data part {event.partition + 1} of {event.partitions}" if event.partitions > 1 else "own data"
    told = f", by class {counts}" if sum(event.labels) else ""
    if part.share == "none":
        return f"{which}: the number of examples is not told (--share none)"
    return f"{which}: {part.examples} {plural(part.examples, 'example')}{told}"


def _joined(event: events.RunJoined, number: int) -> str:
    spec, run = event.spec, event.run[:12]
    members = ", ".join(event.members)
    what = {
        "founded": f"founded run {run}",
        "joined": f"joined run {run}",
        "resumed": f"resumed run {run} after round {number}",
        "continued": f"goes on as run {run}",
        "learner": f"follows run {run} and is a member with the next round",
        "finished": f"run {run} has ended in this data directory, after round {number} (--rounds with more "
        f"than {spec.rounds} extends it, --new-run begins another one)",
    }[event.how]
    return (
        f"{what}: {describe_run(spec)}; {spec.rounds} rounds of {spec.training.epochs} local epochs; "
        f"members {members}"
    )


def _missed(event: events.CaughtUp) -> str:
    if event.first > event.last:
        return "the final evaluation"
    if event.first == event.last:
        return f"round {event.last} of {event.rounds}"
    return f"rounds {event.first} to {event.last} of {event.rounds}"


def _ended(event: events.RunEnded) -> tuple[str, str]:
    """Return how the run ended: complete, stopped early, or without any training."""
    rounds = f"{event.rounds} round{'' if event.rounds == 1 else 's'}"
    if not event.is_trained:
        return "✗", f"the run ended after {rounds} without training: no update was ever counted"
    value = event.primary_value
    result = f", {event.primary} {metric_text(value)}" if value is not None else ", not evaluated"
    model = f"model {event.model[:12]}"
    if event.rounds < event.planned:
        why = f" ({event.why})" if event.why else ""
        return "✓", f"run stopped after {event.rounds} of {event.planned} rounds{why}{result}; {model}"
    return "✓", f"run complete after {rounds}{result}; {model}"


def _of_training(event: events.TrainingEvent, number: int) -> tuple[str, str] | None:
    match event:
        case events.TrainingFinished():
            cut = (
                f", cut at {event.steps} of {event.planned} batches by the deadline" if event.planned else ""
            )
            return "·", (
                f"round {number}: trained on {event.examples} {plural(event.examples, 'sample')} in "
                f"{event.seconds:.1f} s, loss {event.loss:.4f}{cut}"
            )
        case events.UpdateReused():
            return "·", f"round {number}: the update trained before the restart is offered again"
        case events.TrainingStarted():
            return None
        case _:
            assert_never(event)


def _of_aggregation(event: events.AggregationEvent, number: int) -> tuple[str, str] | None:
    match event:
        case events.Elected():
            attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return "★", f"{_round(event, number)}: {event.aggregator} is the aggregator{attempt}"
        case events.UpdateRefused() | events.SteppedDown() if exclusions_in(event.reason):
            return None  # the kick or ban has a line of its own
        case events.UpdateRefused():
            return "!", f"round {number}: update of {event.name} not counted: {event.reason}"
        case events.SteppedDown():
            return (
                "!",
                f"{_round(event, number)}: {event.aggregator} gives attempt {event.attempt} up: "
                f"{event.reason}",
            )
        case (
            events.MembersSelected()
            | events.ElectionStarted()
            | events.UpdateCounted()
            | events.Proposed()
            | events.RecordAccepted()
        ):
            return None
        case _:
            assert_never(event)


def _evaluated(event: events.EvaluationFinished, number: int) -> tuple[str, str] | None:
    """Return a line once all members have reported, and again if the committed evaluations differ."""
    is_due = event.is_news if event.committed else event.reports == event.members
    return ("◎", evaluation(event, number)) if is_due else None


def means(metrics: Mapping[str, float], primary: str) -> str:
    """Return *metrics* as text, the *primary* one first, as "accuracy 0.9125, loss 0.2500"."""
    order = sorted(metrics, key=lambda name: (name != primary, name))
    return ", ".join(f"{name} {metric_text(metrics[name])}" for name in order)


def evaluation(event: events.EvaluationFinished, number: int) -> str:
    """Return the metrics of round *number*'s model, and whether they are reported or committed."""
    members = f"{event.reports} of {event.members} members"
    how = f"committed for {members}" if event.committed else f"reported by {members}"
    before = f"; {metric_text(event.reported)} was reported" if event.reported is not None else ""
    on = f"{event.examples} {plural(event.examples, 'sample')}"
    return f"round {number}: {means(event.metrics, event.primary)} on {on}, {how}{before}"


def _round(
    event: events.Elected | events.SteppedDown | events.QuorumLost | events.QuorumBack, number: int
) -> str:
    """Return the name of *event*'s round; the final evaluation trains nothing and has no number."""
    return "final evaluation" if event.kind == "evaluate" else f"round {number}"


def _control_request(event: events.ControlRequested) -> str:
    what = {
        "pause": "the run pauses with the next commit",
        "end": "the run ends with the next commit",
        "end-now": "the run ends now, with the updates there are",
    }[event.what]
    return f"{what}{_by(event.by)}"


def _by(who: str) -> str:
    return f", as {who} wants" if who else ""


def _committed(event: events.Committed) -> str:
    if event.kind == "evaluate":
        note = f"; {event.note}" if event.note else ""
        return f"final evaluation committed by {event.aggregator}{note}"
    reasons: dict[str, list[str]] = {}
    excluded = exclusions_in(event.note)
    for name, reason in event.left_out:
        if any(part == f"{name} {reason.removeprefix('it ')}" for part in excluded):
            continue  # the note says it
        reasons.setdefault(reason, []).append(name)
    left_out = "".join(f"; without {', '.join(names)} ({reason})" for reason, names in reasons.items())
    note = f"; {event.note}" if event.note else ""
    updates = f"{len(event.updates)} update{'' if len(event.updates) == 1 else 's'}"
    cut = [f"{update.name} at {update.cut}" for update in event.updates if update.cut]
    left_out += f"; cut by the deadline: {', '.join(cut)}" if cut else ""
    if not event.updates:
        updates = "no update, so the model of the round before"
    return (
        f"round {event.trained} committed by {event.aggregator}: {updates}, "
        f"model {event.digest[:12]}, {event.seconds:.1f} s{left_out}{note}"
    )
