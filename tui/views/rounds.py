"""Rounds as table rows, the progress of the open round, and the details of a decided one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from p2pfl.cards import metric_cell, metric_text
from p2pfl.observe.rounds import MAX_ROUNDS, OpenRound, Round
from p2pfl.observe.state import State
from p2pfl.text import plural
from tui.symbols import PROVISIONAL, Glyphs, clip, delta, duration, fit, metric, rate, share, size
from tui.views.summary import NONE, primary_of, reachable
from tui.widgets.bars import progress
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
                    "updates": f"{len(state.open.counted)}/{len(state.members)}",
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


def open_line(state: State, now: float, glyphs: Glyphs) -> Text:
    """Return the open round on one line."""
    opened = state.open
    if opened is None or not state.run:
        return Text("")
    trained, wanted = len(opened.trained | set(opened.counted)), max(1, len(state.members))
    kind = "final evaluation" if opened.kind == "evaluate" else f"r{opened.round}"
    line = Text(f"{kind}  train ").append_text(progress(trained / wanted, 8, glyphs))
    line.append(f" {trained}/{wanted}")
    if opened.aggregator == state.name:  # only the aggregator knows of all updates
        line.append("  recv ").append_text(progress(len(opened.counted) / wanted, 8, glyphs))
        line.append(f" {len(opened.counted)}/{wanted}")
    if state.training is not None and state.training[1]:
        line.append(f"  me {share(state.training[0] / state.training[1])}")
    for transfer in list(state.transfers.values())[:2]:
        arrow = glyphs.up if transfer.what == "push" else glyphs.down
        line.append(f"  {arrow} {clip(transfer.peer, 12)} {share(transfer.done / max(1, transfer.total))}")
    line.append(f"  agg {clip(opened.aggregator, 14) or glyphs.dot}")
    if opened.opened_at is not None:
        line.append(f"  {duration(max(0.0, now - opened.opened_at))}")
    return line


def open_lines(state: State, now: float, glyphs: Glyphs, width: int) -> list[Text]:
    """Return the open round as a panel's lines."""
    opened = state.open
    if opened is None or not state.run:
        return [Text("no round is open")]
    wanted = max(1, len(state.members))
    trained = opened.trained | set(opened.counted)
    steps = [
        ("elect", opened.aggregator != ""),
        ("train", len(trained) >= wanted),
        ("transfer", len(opened.counted) >= wanted or opened.proposed_at is not None),
        ("average", opened.proposed_at is not None),
        ("accept", False),
    ]
    path = Text()
    for index, (word, is_done) in enumerate(steps):
        path.append(f" {glyphs.right} " if index else "", style="dim")
        path.append(f"{word} {glyphs.check if is_done else glyphs.dot}", style="bold" if is_done else "")
    bar = max(8, min(24, width - 44))
    lines = [path, Text("")]
    if state.training is not None and state.training[1]:
        done, total = state.training
        lines.append(
            Text("me   train ")
            .append_text(progress(done / total, bar, glyphs))
            .append(f" {share(done / total):>4}  {done}/{total} batches")
        )
    for transfer in list(state.transfers.values())[:3]:
        part = transfer.done / max(1, transfer.total)
        lines.append(
            Text("     send  " if transfer.what == "push" else "     pull  ")
            .append_text(progress(part, bar, glyphs))
            .append(
                f" {share(part):>4}  {size(transfer.done)}/{size(transfer.total)}  {rate(transfer.rate)}  "
                f"{clip(transfer.peer, 14)}"
            )
        )
    missing = [name for name in state.members if name not in trained]
    lines.append(
        Text("all  train ")
        .append_text(progress(len(trained) / wanted, bar, glyphs))
        .append(f" {len(trained)}/{wanted}" + (f"  waiting: {_names(missing)}" if missing else ""))
    )
    if opened.aggregator == state.name:
        lines.append(
            Text("all  recv  ")
            .append_text(progress(len(opened.counted) / wanted, bar, glyphs))
            .append(f" {len(opened.counted)}/{wanted} updates")
        )
    elif opened.aggregator:
        lines.append(Text(f"updates go to {clip(opened.aggregator, 20)}"))
    lines.append(Text(_situation(state, opened, now)))
    return lines


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
    shown = ", ".join(clip(name, 12) for name in names[:most])
    return shown + (f" +{len(names) - most}" if len(names) > most else "")


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
        Text(f"average   FedAvg, weights by samples; {sum(u.examples for u in one.updates)} samples in all"),
        Text(f"elected   {_election(one)}"),
    ]
    if one.committed_at is not None:
        moment = time.strftime("%H:%M:%S", time.localtime(one.committed_at))
        after = f", {duration(one.seconds)} after the round before" if one.seconds else ""
        lines.append(Text(f"decided   at {moment}{after}"))
    if one.note:
        lines.append(Text(f"note      {clip(one.note, 200)}"))
    lines += [Text(f"left out  {clip(name, 30)}: {clip(reason, 120)}") for name, reason in one.left_out]
    return lines


def _election(one: Round) -> str:
    """Return the elected aggregator, the time of the election, and how many others stepped down before."""
    text = f"{clip(one.aggregator, 30)}, attempt {one.attempt}"
    seen = one.seen
    if seen is None:
        return text
    if seen.elected_at is not None and seen.opened_at is not None:
        text += f", {duration(max(0.0, seen.elected_at - seen.opened_at))} after the round began"
    if seen.step_downs:
        text += f"; stepped down before: {seen.step_downs}"
    return text


def _same_model(state: State, one: Round) -> str:
    """Return how many peers are known to hold the model of the last round; no peer can hold another one."""
    last = state.rounds.last
    if last is None or last.round != one.round:
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
        note += f"  cut at {update.cut}" if update.cut else ""
        rows.append(GanttRow(clip(update.name, 40), one.aggregator == update.name, tuple(spans), note))
    for name, reason in one.left_out:
        rows.append(GanttRow(clip(name, 40), False, (), clip(reason, 40)))
    return rows, total
