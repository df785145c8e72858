"""Rounds as table rows, the progress of the open round, and the details of a decided one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from p2pfl.cards import metric_cell, metric_text
from p2pfl.observe.peers import Peer
from p2pfl.observe.render import LogRow
from p2pfl.observe.rounds import MAX_ROUNDS, OpenRound, Round
from p2pfl.observe.state import FINISHED_PHASES, State
from p2pfl.strategy_specs import describe_strategy
from p2pfl.text import plural
from tui.symbols import (
    PROVISIONAL,
    Glyphs,
    ago,
    clip,
    delta,
    duration,
    fit,
    metric,
    rate,
    samples,
    score,
    share,
    size,
)
from tui.views.summary import NONE, primary_of, reachable
from tui.widgets.bars import LabelledBar, progress
from tui.widgets.gantt import GanttRow, Span
from tui.widgets.table import Column, Row

ROUND_COLUMNS = (
    Column("round", "RND", 4, 10, "right"),
    Column("aggregator", "AGGREGATOR", 14, 9),
    Column("updates", "PART", 6, 8, "right"),
    Column("seconds", "TIME", 6, 7, "right"),
    Column("primary", "ACC", 5, 10, "right"),
    Column("delta", "CHANGE", 6, 6, "right"),
    Column("loss", "LOSS", 6, 5, "right"),
    Column("try", "TRY", 3, 3, "right"),
    Column("slowest", "SLOWEST", 22, 2),
    Column("model", "MODEL", 7, 4),
    Column("note", "NOTE", 30, 1),
)
"""Columns of the table of rounds."""


def round_rows(state: State, glyphs: Glyphs, count: int = MAX_ROUNDS) -> list[Row]:
    """Return the rows of the latest *count* rounds: the open one first, then the latest first."""
    rows: list[Row] = []
    before: float | None = None
    rounds = list(state.rounds)
    if len(rounds) > count:
        before = state.value_of(rounds[-count - 1])
    for one in rounds[-count:]:
        value = state.value_of(one)
        value = None if one.is_partial else value
        change = value - before if value is not None and before is not None else None
        before = value if value is not None else before
        slowest = max(one.updates, key=lambda update: update.seconds, default=None)
        note = one.note or "; ".join(f"without {name}: {reason}" for name, reason in one.left_out)
        rows.append(
            Row(
                str(one.round),
                {
                    "round": str(one.round),
                    "aggregator": clip(one.aggregator, 14),
                    "updates": _part(one),
                    "seconds": duration(one.seconds) if one.seconds else NONE,
                    "primary": primary_text(state, one),
                    "delta": delta(change, glyphs) if change is not None else "",
                    "loss": metric_cell(one.loss, 6) if one.loss is not None else NONE,
                    "try": str(one.attempt),
                    "slowest": f"{clip(slowest.name, 14)} {duration(slowest.seconds)}" if slowest else NONE,
                    "model": one.digest[:7],
                    "note": clip(note, 60),
                },
            )
        )
    if state.open is not None and state.open.kind == "train" and state.run:
        rows.append(
            Row(
                str(state.open.round),
                {
                    "round": str(state.open.round),
                    "aggregator": clip(state.open.aggregator, 14) or glyphs.more,
                    "updates": f"{len(state.open.counted)}/{len(state.expected_members(state.open))}",
                    "seconds": glyphs.more,
                    "primary": glyphs.more,
                },
                dim=True,
            )
        )
    return rows[::-1]


def primary_text(state: State, one: Round) -> str:
    """Return the primary metric of a round that all members have evaluated, marked if it is not committed."""
    value = state.value_of(one)
    if value is None or one.is_partial:
        return NONE
    return (PROVISIONAL if one.is_provisional else "") + metric(state.primary, value)


def _part(one: Round) -> str:
    """Return the number of counted updates, of all that were expected."""
    wanted = len(one.updates) + len(one.left_out)
    return f"{len(one.updates)}/{wanted}{'!' if one.left_out else ''}"


def open_name(state: State) -> str:
    """Return the name of the open round."""
    if state.open is None:
        return "Round"
    return f"Round {state.open.round}" if state.open.kind == "train" else "Final evaluation"


class RoundProgress(NamedTuple):
    """How far the members are with the open round."""

    trained: tuple[str, ...]
    """Members that have trained."""
    training: tuple[Peer, ...]
    """Members that are here and have not: the round waits for them."""
    gone: tuple[str, ...]
    """Members that are not here and have not: it does not wait for them."""
    uncounted: tuple[str, ...]
    """Members that are here and have trained, whose update is not counted; known to the aggregator only."""

    @property
    def wanted(self) -> int:
        """Updates that the round may still have."""
        return len(self.trained) + len(self.training)


def round_progress(state: State, opened: OpenRound) -> RoundProgress:
    """Return how far the members are with the round *opened*."""
    done = opened.trained | set(opened.counted)
    trained, training, gone, uncounted = [], [], [], []
    for name in state.expected_members(opened):
        peer = state.peers.get(name)
        is_here = peer is not None and peer.is_connected
        if name in done or (peer is not None and is_here and _has_trained(peer, opened)):
            trained.append(name)
            if is_here and name not in opened.counted and name not in opened.refused:
                uncounted.append(name)
        elif peer is not None and is_here:
            training.append(peer)
        else:
            gone.append(name)
    return RoundProgress(tuple(trained), tuple(training), tuple(gone), tuple(uncounted))


def _has_trained(peer: Peer, opened: OpenRound) -> bool:
    status = peer.status
    return (
        status is not None and status.phase in ("trained", "aggregating") and status.round == opened.index - 1
    )


STEPS = ("elect", "train", "transfer", "average", "accept")
"""What happens in a round, in order; a final evaluation has no training."""


def current_step(state: State, opened: OpenRound, have: RoundProgress) -> str:
    """Return what the round *opened* is at."""
    if not opened.aggregator or is_aggregator_gone(state, opened):
        return "elect"
    if opened.proposed_at is not None:
        return "accept"
    if opened.kind == "evaluate":
        return "average"
    if have.training:
        return "train"
    return "transfer" if opened.aggregator != state.name or have.uncounted else "average"


def is_aggregator_gone(state: State, opened: OpenRound) -> bool:
    """Whether the elected aggregator is not here any more, so that another one is needed."""
    peer = state.peers.get(opened.aggregator)
    return peer is not None and not peer.is_connected


def _path(state: State, opened: OpenRound, have: RoundProgress, glyphs: Glyphs) -> Text:
    """Return the steps of the round; the present one stands out."""
    steps = STEPS if opened.kind == "train" else ("elect", "average", "accept")
    now = steps.index(current_step(state, opened, have)) if state.phase != "paused" else -1
    path = Text()
    for index, word in enumerate(steps):
        path.append(f" {glyphs.right} " if index else "", style="quiet")
        if index < now:
            path.append(f"{word} {glyphs.check}", style="good")
        elif index == now:
            path.append_text(_present(f"{glyphs.full} {word}{_count(word, opened, have)}"))
        else:
            path.append(f"{word} {glyphs.dot}", style="quiet")
    return path


def _present(text: str) -> Text:
    """Return *text* as what happens now."""
    made = Text(text)
    made.stylize("lead")
    made.stylize("bold")
    return made


def _count(word: str, opened: OpenRound, have: RoundProgress) -> str:
    if word == "train":
        return f" {len(have.trained)}/{have.wanted}"
    return f" {len(opened.counted)}/{have.wanted}" if word == "transfer" and opened.counted else ""


def waits_for(state: State, opened: OpenRound, have: RoundProgress, now: float) -> str:
    """Return whom the round waits for, never one that is gone, with the time it may take still."""
    match current_step(state, opened, have):
        case _ if state.phase == "no quorum":
            return f"waits for {plural_members(state.needed - state.reachable)}"
        case _ if state.phase == "paused":
            return "paused"
        case "accept":
            return f"votes: {state.needed} of {len(state.members)} decide"
        case "elect" if is_aggregator_gone(state, opened):
            return f"votes: {state.needed} of {len(state.members)} elect another aggregator"
        case "elect" if not have.training or opened.attempt:
            return f"votes: {state.needed} of {len(state.members)} elect an aggregator"
        case "elect" | "train":
            left = _seconds_left(have.training, opened, now)
            return f"waits for {_names([peer.name for peer in have.training])}{left}"
        case "transfer" if opened.aggregator == state.name:
            return f"waits for the updates of {_names(have.uncounted)}"
        case "transfer":
            return f"updates go to {clip(opened.aggregator, 20)}"
        case _:
            return f"averaging, at {clip(opened.aggregator, 20)}"


def plural_members(count: int) -> str:
    """Return "2 more members"."""
    return f"{max(1, count)} more {plural(max(1, count), 'member')}"


def _seconds_left(peers: Sequence[Peer], opened: OpenRound, now: float) -> str:
    """Return how long the training of *peers* takes still, by what they predict; empty if none does."""
    left = [
        peer.status.predicted - (now - since)
        for peer in peers
        if peer.status is not None
        and peer.status.predicted > 0
        and (since := _began_at(peer, opened)) is not None
    ]
    if not left:
        return ""
    return f", about {ago(max(left))} left" if max(left) >= 1 else ", any moment"


def _began_at(peer: Peer, opened: OpenRound) -> float | None:
    """Return when *peer* began to train in the round *opened*; at its begin, if it has not said so yet."""
    status = peer.status
    if status is not None and status.phase == "training" and status.round == opened.index - 1:
        return peer.training_since
    return opened.opened_at


def open_line(state: State, now: float, glyphs: Glyphs) -> Text:
    """Return the open round on one line."""
    opened = state.open
    if opened is None or not state.run:
        return Text("")
    have = round_progress(state, opened)
    step = current_step(state, opened, have)
    line = Text("final evaluation  " if opened.kind == "evaluate" else f"r{opened.round}  ")
    line.append_text(_present(f"{glyphs.full} {step}"))
    if step in ("train", "elect") and opened.kind == "train":
        line.append(" ").append_text(progress(len(have.trained) / max(1, have.wanted), 6, glyphs))
        line.append(f" {len(have.trained)}/{have.wanted}")
    elif step == "transfer" and opened.aggregator == state.name:  # only the aggregator knows of all updates
        line.append(" ").append_text(progress(len(opened.counted) / max(1, have.wanted), 6, glyphs))
        line.append(f" {len(opened.counted)}/{have.wanted}")
    line.append(f"  {waits_for(state, opened, have, now)}")
    if state.training is not None and state.training[1]:
        line.append(f"  me {share(state.training[0] / state.training[1])}")
    for transfer in list(state.transfers.values())[:2]:
        arrow = glyphs.up if transfer.what == "push" else glyphs.down
        line.append(f"  {arrow} {clip(transfer.peer, 12)} {share(transfer.done / max(1, transfer.total))}")
    if opened.aggregator and not is_aggregator_gone(state, opened):
        line.append(f"  {glyphs.star}", style="lead").append(f" {clip(opened.aggregator, 14)}")
    if opened.opened_at is not None:
        line.append(f"  {duration(max(0.0, now - opened.opened_at))}")
    return line


LABEL_CELLS = 11
"""Of the name of a row with a bar."""

LEAST_BAR, MOST_BAR = 6, 24


def open_lines(state: State, now: float, glyphs: Glyphs, width: int) -> list[Text]:
    """Return the open round as a panel's lines."""
    opened = state.open
    if opened is None or not state.run:
        return [Text("no round is open")]
    have = round_progress(state, opened)
    wanted = max(1, have.wanted)
    rows: list[tuple[str, float, str]] = []
    if state.training is not None and state.training[1]:
        done, total = state.training
        rows.append(("me   train", done / total, f"{share(done / total):>4}  {done}/{total} batches"))
    for transfer in list(state.transfers.values())[:3]:
        part = transfer.done / max(1, transfer.total)
        way = "to" if transfer.what == "push" else "from"
        rows.append(
            (
                "me   send" if transfer.what == "push" else "me   pull",
                part,
                f"{share(part):>4}  {size(transfer.done)}/{size(transfer.total)}  {rate(transfer.rate)}  "
                f"{way} {clip(transfer.peer, 14)}",
            )
        )
    if opened.kind == "train":
        gone = f"  without {_names(have.gone)}" if have.gone else ""
        of = " selected" if opened.selected else ""
        rows.append(("all  train", len(have.trained) / wanted, f" {len(have.trained)}/{wanted}{of}{gone}"))
        if opened.aggregator == state.name:
            count = len(opened.counted)
            rows.append(("all  recv", count / wanted, f" {count}/{wanted} updates"))
    room = width - LABEL_CELLS - 1 - max((len(tail) for _, _, tail in rows), default=0)
    bar = max(LEAST_BAR, min(MOST_BAR, room)) if width else MOST_BAR
    lines = [_path(state, opened, have, glyphs), _now_line(state, opened, have, now)]
    lines.append(Text(_situation(state, opened, now), style="quiet"))
    for label, part, tail in rows:
        line = Text(f"{label:<{LABEL_CELLS}}").append_text(progress(part, bar, glyphs)).append(f" {tail}")
        if width:
            line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _now_line(state: State, opened: OpenRound, have: RoundProgress, now: float) -> Text:
    text = waits_for(state, opened, have, now)
    return Text(text[:1].upper() + text[1:], style="bold")


def _situation(state: State, opened: OpenRound, now: float) -> str:
    """Return the age of the round, its quorum, and how many members may fail."""
    here, members = reachable(state)
    needed = state.needed
    parts = []
    if opened.opened_at is not None:
        parts.append(f"open for {duration(max(0.0, now - opened.opened_at))}")
    parts.append(f"{here} of {members} here, {needed} needed")
    parts.append(f"may lose {state.tolerates()}" if here >= needed else f"waits for {needed - here} more")
    if opened.attempt > 1:
        parts.append(f"attempt {opened.attempt}")
    return " · ".join(parts)


def _names(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(clip(name, 14) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def round_lines(state: State, one: Round, glyphs: Glyphs) -> list[Text]:
    """Return the result of a round, as lines."""
    earlier = next((r for r in reversed(list(state.rounds)) if r.round < one.round), None)
    before, value = state.value_of(earlier), state.value_of(one)
    result = "not evaluated yet"
    if value is not None:
        change = f" ({delta(value - before, glyphs)})" if before is not None else ""
        names = [name for name in sorted(one.metrics) if name != state.primary]
        others = "".join(f"  {clip(name, 12)} {metric_text(one.metrics[name])}" for name in names)
        how = "reported by" if one.is_provisional else "of"
        which = f"{len(one.scores)} of {len(one.members)}" if one.is_partial else f"{len(one.scores)}"
        mark = PROVISIONAL if one.is_provisional else ""
        by = f"{how} {which} members, {one.examples} {plural(one.examples, 'sample')}"
        result = f"{mark}{metric_text(value)}{change}{others}  {by}"
    lines = [
        Text(f"{fit(state.primary, 9)} {result}"),
        Text(f"model     BLAKE3 {one.digest[:16]}   {_same_model(state, one)}"),
        Text(f"average   {_average(state, one)}"),
        Text(f"elected   {_election(one)}"),
    ]
    if one.committed_at is not None:
        moment = time.strftime("%H:%M:%S", time.localtime(one.committed_at))
        after = f", {duration(one.seconds)} after the round before" if one.seconds else ""
        lines.append(Text(f"decided   at {moment}{after}"))
    if one.seen is not None and (moved := _bytes(one.seen)):
        lines.append(Text(f"bytes     {moved}"))
    if one.note:
        lines.append(Text(f"note      {clip(one.note, 200)}"))
    lines += [Text(f"left out  {clip(name, 30)}: {clip(reason, 120)}") for name, reason in one.left_out]
    return lines


def class_bars(state: State, one: Round, most: int) -> tuple[list[LabelledBar], bool]:
    """Return the recall of each class in a round's evaluation, and whether the lowest are first.

    They are where there are more than *most*, so that those can be seen. A class without held-out examples
    has no recall.
    """
    names = state.classes or tuple(str(number) for number in range(len(one.classes)))
    bars = []
    for name, count in zip(names, one.classes, strict=False):
        if count.examples:
            recall = count.right / count.examples
            bars.append(LabelledBar(name, recall, f"{score(recall):>4} {samples(count.examples):>5}"))
    is_long = len(bars) > most
    return sorted(bars, key=lambda bar: bar.part) if is_long else bars, is_long


def round_log(state: State, one: Round) -> list[LogRow]:
    """Return the rows of the log from the commit before a round to its own; none if its time is unknown."""
    if one.committed_at is None:
        return []
    began = one.committed_at - one.seconds
    return [row for row in state.log if began <= row.time <= one.committed_at]


def _average(state: State, one: Round) -> str:
    """Return the strategy of the run, and how many samples the updates have."""
    name = describe_strategy(state.spec.strategy) if state.spec is not None else "strategy unknown"
    total = sum(update.examples for update in one.updates)
    return f"{clip(name, 60)}; {total} {plural(total, 'sample')} in all"


def _election(one: Round) -> str:
    """Return the elected aggregator, the time of the election, and how many others stepped down before."""
    text = f"{clip(one.aggregator, 30)}, attempt {one.attempt}"
    seen = one.seen
    if seen is None:
        return text
    if seen.votes:
        text += f", {seen.votes} votes"
    if seen.elected_at is not None and seen.opened_at is not None:
        text += f", {duration(max(0.0, seen.elected_at - seen.opened_at))} after the round began"
    if seen.step_downs:
        text += f"; stepped down before: {seen.step_downs}"
    return text


def _moved(state: State, seen: OpenRound, name: str) -> str:
    """Return the bytes of the update of *name* that this node has seen moving; empty if it has not."""
    count = seen.moved.get(("pull", name), 0)
    if name == state.name:
        count = max((sent for (what, _), sent in seen.moved.items() if what == "push"), default=0)
    return size(count) if count else ""


def _bytes(seen: OpenRound) -> str:
    """Return the bytes of models that this node sent and received in a round; empty if it has seen none."""
    sent = sum(count for (what, _), count in seen.moved.items() if what == "push")
    received = sum(count for (what, _), count in seen.moved.items() if what == "pull")
    return f"sent {size(sent)}, received {size(received)} by this node" if sent or received else ""


def _same_model(state: State, one: Round) -> str:
    """Return how many peers are known to hold the model of the last round; no peer can hold another one.

    Nothing after the run: nodes end when they have the model, and the others hear no status of that.
    """
    last = state.rounds.last
    if last is None or last.round != one.round or state.phase in FINISHED_PHASES:
        return ""
    here = [
        peer
        for peer in state.peers.values()
        if peer.is_connected and peer.status is not None and peer.status.run == state.run
    ]
    holding = sum(1 for p in here if p.status and p.status.round >= one.index and p.status.holds)
    return f"same model on {holding}/{len(here)} peers" if here else ""


def round_gantt(state: State, one: Round) -> tuple[list[GanttRow], float]:
    """Return the spans of each member in a round, in seconds from its start, and the round's length.

    The length of each training is known; the end of a transfer only if this node received an event about it.
    """
    total = max(one.seconds, max((update.seconds for update in one.updates), default=0.0), 0.1)
    begin = one.committed_at - one.seconds if one.committed_at is not None else None
    seen = one.seen
    proposed = None
    if seen is not None and seen.proposed_at is not None and begin is not None:
        proposed = min(total, max(0.0, seen.proposed_at - begin))
    rows = []
    for update in sorted(one.updates, key=lambda update: update.name):
        spans = [Span("train", 0.0, min(update.seconds, total))]
        counted = seen.counted.get(update.name) if seen is not None else None
        if counted is not None and begin is not None and counted - begin > update.seconds:
            spans.append(Span("transfer", update.seconds, min(total, counted - begin)))
        if proposed is not None:
            spans.append(Span("aggregate", proposed, total))
        scored = one.score_of(update.name)
        weight = update.examples / max(1, sum(u.examples for u in one.updates))
        note = f"{primary_of(state, scored):>5} {share(weight):>4}"
        if seen is not None and (moved := _moved(state, seen, update.name)):
            note += f" {moved:>6}"
        note += f"  cut at {update.cut}" if update.cut else ""
        rows.append(GanttRow(clip(update.name, 40), one.aggregator == update.name, tuple(spans), note))
    for name, reason in one.left_out:
        rows.append(GanttRow(clip(name, 40), False, (), clip(reason, 40)))
    return rows, total
