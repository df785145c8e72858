"""From what is known of a node to what the screens show: rows, series and lines of text.

Pure functions of the state and of the time: nothing here draws, and nothing is kept. What has no source in
the state is not shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

from p2pfl.events import CountedUpdate
from p2pfl.observe.peers import Doing, Peer
from p2pfl.observe.rounds import Open, Round
from p2pfl.observe.state import LogRow, State
from tui.symbols import SYMBOLS, Glyphs, ago, clip, delta, duration, rate, samples, score, share, size
from tui.widgets.bars import progress
from tui.widgets.gantt import GanttRow, Span
from tui.widgets.header import HeaderValues
from tui.widgets.plot import Band, Series
from tui.widgets.table import Column, Row

NONE = "—"
"""Where there is no value."""

PHASE_WORDS = {
    "starting": "STARTING",
    "waiting": "WAITING FOR PEERS",
    "running": "RUNNING",
    "no quorum": "NO QUORUM",
    "paused": "PAUSED",
    "complete": "COMPLETE",
    "ended": "ENDED",
}

PEER_COLUMNS = (
    Column("star", "★", 1, 9),
    Column("name", "NAME", 14, 10),
    Column("doing", "STATE", 13, 10),
    Column("round", "RND", 4, 8, "right"),
    Column("samples", "SAMP", 5, 5, "right"),
    Column("accuracy", "ACC", 5, 7, "right"),
    Column("rtt", "RTT", 6, 6, "right"),
    Column("up", "UP", 7, 4, "right"),
    Column("down", "DOWN", 7, 3, "right"),
    Column("loss", "LOSS", 5, 2, "right"),
    Column("seconds", "TRAIN", 6, 2, "right"),
    Column("since", "SINCE", 6, 1, "right"),
    Column("device", "DEVICE", 12, 1),
    Column("system", "SYSTEM", 14, 0),
    Column("address", "ADDRESS", 22, 0),
)
"""Of the table of peers: what goes first when the screen is narrow has the lowest priority."""

ROUND_COLUMNS = (
    Column("round", "RND", 4, 10, "right"),
    Column("aggregator", "AGGREGATOR", 14, 9),
    Column("updates", "PART", 6, 8, "right"),
    Column("seconds", "TIME", 6, 7, "right"),
    Column("accuracy", "ACC", 5, 10, "right"),
    Column("delta", "CHANGE", 6, 6, "right"),
    Column("loss", "LOSS", 6, 5, "right"),
    Column("try", "TRY", 3, 3, "right"),
    Column("slowest", "SLOWEST", 22, 2),
    Column("model", "MODEL", 7, 4),
    Column("note", "NOTE", 30, 1),
)
"""Of the table of rounds."""


class Scores(NamedTuple):
    """Accuracy and loss of the last evaluated round, and how they changed."""

    round: Round | None
    accuracy: float | None
    change: float | None


def last_scores(state: State) -> Scores:
    """Return how the last evaluated round did."""
    scored = [one for one in state.rounds if one.accuracy is not None]
    if not scored:
        return Scores(None, None, None)
    last, accuracy = scored[-1], scored[-1].accuracy
    before = scored[-2].accuracy if len(scored) > 1 else None
    assert accuracy is not None
    return Scores(last, accuracy, None if before is None else accuracy - before)


def remaining_seconds(state: State) -> float | None:
    """Return how long the run will take, as its last ten rounds went; None before the first is decided."""
    if state.phase != "running" or state.target_rounds <= state.trained:
        return None
    recent = [one.seconds for one in list(state.rounds)[-10:]]
    return sum(recent) / len(recent) * (state.target_rounds - state.trained) if recent else None


def reachable(state: State) -> tuple[int, int]:
    """Return how many members are here, of how many."""
    here = sum(1 for name in state.members if (peer := state.peers.get(name)) and peer.doing_now)
    return here, len(state.members)


def header(state: State, attached: str) -> HeaderValues:
    """Return the values of the line at the top."""
    scores = last_scores(state)
    here, members = reachable(state)
    left = remaining_seconds(state)
    phase = PHASE_WORDS[state.phase]
    if state.phase == "no quorum" and state.quorum is not None:
        phase = f"PAUSED {state.quorum[0]} of {state.quorum[1]} reachable, {state.quorum[2]} needed"
    elif state.phase == "running" and state.wanted:
        phase = "PAUSING" if "pause" in state.wanted else "ENDING"
    elif state.phase == "waiting" and state.waiting is not None:
        phase = f"{phase} {state.waiting.present}/{state.waiting.needed}"
    return HeaderValues(
        task=state.spec.task if state.spec is not None else "p2pfl",
        node=state.name,
        phase=phase,
        phase_kind=state.phase,
        trained=state.trained,
        rounds=state.target_rounds,
        accuracy=scores.accuracy,
        change=scores.change,
        here=here,
        members=members,
        left=left,
        attached=attached,
    )


# --- peers --------------------------------------------------------------------------------------------------


def peer_rows(state: State, now: float, glyphs: Glyphs) -> list[Row]:
    """Return the rows of the table of peers: this node's first, then by name."""
    order = sorted(state.peers.values(), key=lambda peer: (not peer.is_me, peer.name))
    return [_peer_row(state, peer, now, glyphs) for peer in order]


def _peer_row(state: State, peer: Peer, now: float, glyphs: Glyphs) -> Row:
    doing = state.doing(peer, now)
    symbol = SYMBOLS[doing.word]
    status, facts = peer.status, peer.facts
    is_gone = not peer.doing_now
    is_aggregator = state.open is not None and state.open.aggregator == peer.name
    scores = peer.score
    cells: dict[str, Text | str] = {
        "star": Text(glyphs.star if is_aggregator else " ", style=SYMBOLS["elected"].style_name),
        "name": clip(peer.name, 40),
        "doing": Text(doing_text(doing, peer, now, glyphs), style=symbol.style_name),
        "round": str(status.round) if status is not None else NONE,
        "samples": samples(facts.samples) if facts is not None and facts.samples else NONE,
        "accuracy": score(scores.correct / scores.total) if scores is not None else NONE,
        "loss": f"{scores.loss / scores.total:.3f}" if scores is not None else NONE,
        "rtt": "me" if peer.is_me else NONE if is_gone or peer.rtt is None else duration(peer.rtt),
        "up": NONE if is_gone or peer.is_me else rate(peer.up),
        "down": NONE if is_gone or peer.is_me else rate(peer.down),
        "seconds": duration(peer.update.seconds) if peer.update is not None else NONE,
        "since": ago(now - peer.since) if peer.since is not None else NONE,
        "device": clip(facts.device or "starting", 12) if facts is not None else NONE,
        "system": clip(facts.system, 14) if facts is not None else NONE,
        "address": clip(peer.address, 22),
    }
    return Row(peer.name, cells, dim=is_gone)


def doing_text(doing: Doing, peer: Peer, now: float, glyphs: Glyphs) -> str:
    """Return symbol and word for what a peer does, and how far it is."""
    symbol = SYMBOLS[doing.word]
    mark = symbol.ascii if glyphs.is_ascii else symbol.mark
    detail = doing.detail
    if doing.share is not None:
        detail = share(doing.share)
    elif doing.word == "lost" and peer.since is not None:
        detail = ago(now - peer.since)
    return f"{mark} {symbol.text} {detail}".rstrip()


def peer_lines(state: State, peer: Peer, now: float, glyphs: Glyphs) -> list[Text]:
    """Return what is known of one peer, as lines."""
    status, facts, update = peer.status, peer.facts, peer.update
    role = "member" if peer.is_member else "not in the roster"
    who = Text(f"id    {peer.node or NONE}")
    where = f"addr  {clip(peer.address, 40) or NONE}   {role}{'   this node' if peer.is_me else ''}"
    if peer.since is not None:
        where += f"   {'linked' if peer.linked else 'gone'} for {ago(now - peer.since)}"
    if peer.links_made > 1:
        where += f"   {peer.links_made} links made"
    lines = [who, Text(where)]
    if facts is not None:
        lines.append(
            Text(
                f"dev   {clip(facts.system, 30)}  {facts.cores} cores  {size(facts.memory)}  "
                f"trains on {clip(facts.device, 12) or NONE}   p2pfl {clip(facts.software, 16)}"
            )
        )
    doing = state.doing(peer, now)
    now_line = Text("now   ").append(
        doing_text(doing, peer, now, glyphs), style=SYMBOLS[doing.word].style_name
    )
    if doing.share is not None:
        now_line.append("  ").append_text(progress(doing.share, 20, glyphs))
    if status is not None and status.predicted:
        now_line.append(f"   its own prediction: {duration(status.predicted)}")
    lines.append(now_line)
    if not peer.doing_now and peer.lost_reason:
        lines.append(Text(f"      {clip(peer.lost_reason, 120)}"))
    if not peer.is_me:
        rtts = sorted(peer.rtts)
        p95 = duration(rtts[int(0.95 * (len(rtts) - 1))]) if rtts else NONE
        rtt = duration(peer.rtt) if peer.rtt is not None else NONE
        lines.append(
            Text(f"link  rtt {rtt} (p95 {p95})   sent {size(peer.sent)}   received {size(peer.received)}")
        )
    counts = f"did   aggregated {peer.aggregated}   counted {peer.counted}   left out {peer.missed}"
    if update is not None:
        counts += f"   last training {duration(update.seconds)}, {samples(update.samples)} samples"
    lines.append(Text(counts))
    return lines


def peer_rounds(state: State, peer: Peer, count: int) -> list[Text]:
    """Return what *peer* did in the last *count* rounds, the latest first."""
    lines = []
    for one in reversed(list(state.rounds)[-count:]):
        update = _of(one.updates, peer.name)
        scored = next((part for part in one.scores if part.name == peer.name), None)
        accuracy = f"acc {score(scored.correct / scored.total)}" if scored is not None else ""
        star = "aggregator" if one.aggregator == peer.name else ""
        if update is not None:
            what = f"train {duration(update.seconds):>6}  loss {update.loss:7.4f}"
        else:
            reason = next((why for name, why in one.left_out if name == peer.name), "not in the roster")
            what = clip(reason, 40)
        lines.append(Text(f"{one.round:>5}  {what:<30} {accuracy:<10} {star}"))
    return lines


def _of(updates: Iterable[CountedUpdate], name: str) -> CountedUpdate | None:
    return next((update for update in updates if update.name == name), None)


# --- rounds -------------------------------------------------------------------------------------------------


def round_rows(state: State, glyphs: Glyphs) -> list[Row]:
    """Return the rows of the table of rounds, the latest first, the open one on top."""
    rows: list[Row] = []
    before: float | None = None
    for one in state.rounds:
        change = one.accuracy - before if one.accuracy is not None and before is not None else None
        before = one.accuracy if one.accuracy is not None else before
        slowest = max(one.updates, key=lambda update: update.seconds, default=None)
        note = one.note or "; ".join(f"without {name}: {reason}" for name, reason in one.left_out)
        rows.append(
            Row(
                str(one.round),
                {
                    "round": str(one.round),
                    "aggregator": clip(one.aggregator, 14),
                    "updates": f"{len(one.updates)}/{len(one.updates) + one.missing}{'!' if one.missing else ''}",
                    "seconds": duration(one.seconds),
                    "accuracy": score(one.accuracy) if one.accuracy is not None else NONE,
                    "delta": delta(change, glyphs) if change is not None else "",
                    "loss": f"{one.loss:.4f}" if one.loss is not None else NONE,
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
                    "accuracy": glyphs.more,
                },
                dim=True,
            )
        )
    return rows[::-1]


def open_line(state: State, now: float, glyphs: Glyphs) -> Text:
    """Return the open round on one line."""
    opened = state.open
    if opened is None or not state.run:
        return Text("")
    trained, wanted = len(opened.trained | set(opened.counted)), max(1, len(state.members))
    kind = "final evaluation" if opened.kind == "evaluate" else f"r{opened.round}"
    line = Text(f"{kind}  train ").append_text(progress(trained / wanted, 8, glyphs))
    line.append(f" {trained}/{wanted}")
    if opened.aggregator == state.name:  # only the aggregator hears of all updates
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


def _situation(state: State, opened: Open, now: float) -> str:
    """Return how the round stands: for how long, by what quorum, with how many failures to spare."""
    here, members = reachable(state)
    needed = members // 2 + 1
    parts = []
    if opened.opened_at is not None:
        parts.append(f"open for {duration(max(0.0, now - opened.opened_at))}")
    parts.append(f"{here} of {members} members here, {needed} needed")
    parts.append(f"tolerates the loss of {state.tolerates()}")
    if opened.attempt > 1:
        parts.append(f"attempt {opened.attempt}")
    return " · ".join(parts)


def _names(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(clip(name, 12) for name in names[:most])
    return shown + (f" +{len(names) - most}" if len(names) > most else "")


def round_lines(state: State, one: Round, glyphs: Glyphs) -> list[Text]:
    """Return what came of a round, as lines."""
    before = next((r.accuracy for r in reversed(list(state.rounds)) if r.round < one.round), None)
    result = "not evaluated yet"
    if one.accuracy is not None:
        change = f" ({delta(one.accuracy - before, glyphs)})" if before is not None else ""
        loss = f"   loss {one.loss:.4f}" if one.loss is not None else ""
        result = f"{one.accuracy:.4f}{change}{loss}   on {one.samples} samples of {len(one.scores)} members"
    lines = [
        Text(f"accuracy  {result}"),
        Text(f"model     BLAKE3 {one.digest[:16]}   {_same_model(state, one)}"),
        Text(f"average   FedAvg, weights by samples; {sum(u.samples for u in one.updates)} samples in all"),
        Text(f"elected   {clip(one.aggregator, 30)}, attempt {one.attempt}"),
    ]
    if one.committed_at is not None:
        moment = time.strftime("%H:%M:%S", time.localtime(one.committed_at))
        lines.append(Text(f"decided   at {moment}, {duration(one.seconds)} after the round before"))
    if one.note:
        lines.append(Text(f"note      {clip(one.note, 200)}"))
    lines += [Text(f"left out  {clip(name, 30)}: {clip(reason, 120)}") for name, reason in one.left_out]
    return lines


def _same_model(state: State, one: Round) -> str:
    """Return on how many peers the model is known to be, of the last round; they can have no other one."""
    last = state.rounds.last
    if last is None or last.round != one.round:
        return ""
    here = [
        peer
        for peer in state.peers.values()
        if peer.doing_now and peer.status is not None and peer.status.run == state.run
    ]
    holding = sum(1 for p in here if p.status and p.status.round >= one.round and p.status.holds)
    return f"same model on {holding}/{len(here)} peers" if here else ""


def round_gantt(one: Round) -> tuple[list[GanttRow], float]:
    """Return who did what when in a round, in seconds from its begin, and its length.

    A training is known by its length, of all; a transfer by its end, where this node was told of it.
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
        scored = next((part for part in one.scores if part.name == update.name), None)
        weight = update.samples / max(1, sum(u.samples for u in one.updates))
        note = f"{score(scored.correct / scored.total) if scored else NONE:>5} {share(weight):>4}"
        rows.append(GanttRow(clip(update.name, 40), one.aggregator == update.name, tuple(spans), note))
    for name, reason in one.left_out:
        rows.append(GanttRow(clip(name, 40), False, (), clip(reason, 40)))
    return rows, total


# --- charts -------------------------------------------------------------------------------------------------


def accuracy_series(state: State, *, over_time: bool) -> tuple[list[Series], Band | None]:
    """Return the accuracies to plot: of the model on all data, on this node's, and the members' range."""
    return _series(state, "accuracy", over_time=over_time)


def loss_series(state: State, *, over_time: bool) -> tuple[list[Series], Band | None]:
    """Return the losses to plot."""
    return _series(state, "loss", over_time=over_time)


def _series(state: State, what: str, *, over_time: bool) -> tuple[list[Series], Band | None]:
    all_, mine, low, high = [], [], [], []
    start = next((one.committed_at for one in state.rounds if one.committed_at is not None), None)
    for one in state.rounds:
        if over_time:
            if one.committed_at is None or start is None:
                continue
            x = one.committed_at - start
        else:
            x = float(one.round)
        value = one.accuracy if what == "accuracy" else one.loss
        parts = {
            part.name: (part.correct if what == "accuracy" else part.loss) / part.total for part in one.scores
        }
        all_.append((x, value))
        mine.append((x, parts.get(state.name)))
        if parts:
            low.append((x, min(parts.values())))
            high.append((x, max(parts.values())))
    series = [Series("global", tuple(all_), "global", "line"), Series("me", tuple(mine), "me", "dashed")]
    if what == "accuracy" and state.lone and all_:
        best = max(state.lone.values())
        series.append(
            Series("best alone", ((all_[0][0], best), (all_[-1][0], best)), "alone", "dotted"),
        )
    band = Band(tuple(low), tuple(high)) if len(state.members) > 1 and low else None
    return series, band


def peer_series(state: State, peer: Peer) -> list[Series]:
    """Return the accuracy on *peer*'s own data and on all."""
    own = []
    all_ = []
    for one in state.rounds:
        part = next((part for part in one.scores if part.name == peer.name), None)
        own.append((float(one.round), part.correct / part.total if part is not None else None))
        all_.append((float(one.round), one.accuracy))
    return [
        Series("global", tuple(all_), "global", "line"),
        Series(clip(peer.name, 14), tuple(own), "me", "dashed"),
    ]


# --- network, log, problems ---------------------------------------------------------------------------------


def network_lines(
    state: State, now: float, glyphs: Glyphs, *, count: int = 50, is_narrow: bool = False
) -> list[Text]:
    """Return the links of this node, and what went over them."""
    others = sorted((p for p in state.peers.values() if not p.is_me), key=lambda p: (not p.linked, p.name))
    lines = []
    for peer in others[:count]:
        if peer.linked:
            mark, style = glyphs.link, "good"
            rtt = duration(peer.rtt) if peer.rtt is not None else NONE
            what = f"rtt {rtt:>6}  {glyphs.up} {rate(peer.up):>7}  {glyphs.down} {rate(peer.down):>7}"
            if not is_narrow:
                what += f"  sent {size(peer.sent):>6}  received {size(peer.received):>6}"
        else:
            mark, style = glyphs.broken, "bad"
            since = f"gone for {ago(now - peer.since)}" if peer.since is not None else "never linked"
            what = f"{since}: {clip(peer.lost_reason, 60)}" if peer.lost_reason else since
        width = 11 if is_narrow else 16
        lines.append(Text(f"{clip(peer.name, width):<{width}} ").append(mark, style=style).append(f" {what}"))
    sent, received = sum(p.sent for p in others), sum(p.received for p in others)
    up, down = sum(p.up for p in others), sum(p.down for p in others)
    lines += [
        Text(
            f"sent {size(sent)}   received {size(received)}   now {glyphs.up} {rate(up)} {glyphs.down} {rate(down)}"
        ),
        Text(f"this node: {state.cpu:.2f} cores busy, {size(state.memory)} with its worker"),
    ]
    return lines


def log_line(row: LogRow, width: int, glyphs: Glyphs) -> Text:
    """Return one line of the log."""
    mark = row.mark if not glyphs.is_ascii else glyphs.ascii_of(row.mark)
    line = Text(time.strftime("%H:%M:%S ", time.localtime(row.time)), style="dim")
    line.append(mark, style=row.level)
    line.append(f" {row.text}")
    line.truncate(max(1, width), overflow="ellipsis")
    return line


def waiting_lines(state: State, glyphs: Glyphs) -> list[Text]:
    """Return what to do while nobody else is here."""
    waiting = state.waiting
    port = state.address.rpartition(":")[2].split(",")[0] or "9000"
    lines = [
        Text(
            f"This node, {clip(state.name, 40) or 'starting'}, listens on {clip(state.address, 60) or NONE}."
        ),
        Text(""),
    ]
    if waiting is not None:
        dots = glyphs.full * waiting.present + glyphs.empty * max(0, waiting.needed - waiting.present)
        lines += [
            Text(f"{waiting.reason}   {dots[:40]}"),
            Text("The run starts by itself when they are all here."),
            Text(""),
        ]
    here = [peer for peer in state.peers.values() if peer.linked]
    lines += [Text(f"  {glyphs.link} {clip(peer.name, 30)} at {clip(peer.address, 40)}") for peer in here]
    lines += [
        Text("On another device, with its own folder of certificates:"),
        Text(""),
        Text(f"    p2pfl node --certs FOLDER --peers THIS-DEVICE:{port}", style="bold"),
        Text(""),
        Text("Nothing appears? `p2pfl doctor` with the same options checks certificates, clock and network."),
    ]
    return lines


def finished_text(state: State) -> str:
    """Return how the run came out, for the last line on the normal screen."""
    scores = last_scores(state)
    accuracy = f", accuracy {scores.accuracy:.4f}" if scores.accuracy is not None else ""
    return f"round {state.trained} of {state.target_rounds}{accuracy}"


def title(state: State) -> str:
    """Return the title of the terminal's window."""
    scores = last_scores(state)
    return f"r{state.trained} {100 * scores.accuracy:.1f}%" if scores.accuracy is not None else "p2pfl"


def label_counts(state: State) -> Mapping[str, tuple[int, ...]]:
    """Return the label counts of each peer that told them."""
    return {
        name: peer.facts.labels
        for name, peer in sorted(state.peers.items())
        if peer.facts is not None and peer.facts.labels
    }


def plain(name: str) -> str:
    """Return a name that harms no title: without markup or control characters."""
    return clip(name, 30).replace("[", "(").replace("]", ")")
