"""Peers as table rows, the details of one peer, and the links to all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.text import Text

from p2pfl.cards import metric_heading
from p2pfl.events import CountedUpdate, MemberScore, PeerDeviceInfo
from p2pfl.observe.peers import Activity, Peer
from p2pfl.observe.rounds import Round
from p2pfl.observe.state import State
from p2pfl.text import plural
from tui.symbols import SYMBOLS, Glyphs, ago, clip, duration, fit, rate, samples, share, size
from tui.views.summary import NONE, loss_of, primary_of
from tui.widgets.bars import histogram, progress, sparkline, trend
from tui.widgets.table import Column, Row

PEER_COLUMNS = (
    Column("star", "★", 1, 9),
    Column("name", "NAME", 14, 10),
    Column("activity", "STATE", 13, 10),
    Column("round", "RND", 4, 8, "right"),
    Column("samples", "SAMP", 5, 5, "right"),
    Column("primary", "ACC", 5, 7, "right"),
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
"""Columns of the table of peers; on a narrow screen those with the lowest priority are dropped first."""

TREND_CELLS = 10
"""Of the last rounds of a peer, and of its labels, in a column."""

WIDE_PEER_COLUMNS = (
    *(column._replace(priority=4) if column.key == "samples" else column for column in PEER_COLUMNS[:6]),
    Column("trend", "TREND", TREND_CELLS, 5),
    *PEER_COLUMNS[6:11],
    Column("times", "TIMES", TREND_CELLS, 4),
    Column("labels", "LABELS", TREND_CELLS, 6),
    *PEER_COLUMNS[11:],
)
"""Columns where the table has a screen of its own: last rounds and labels, rather than samples."""

MAX_LINKS = 50
"""Links in the list."""

MAX_UNREACHED = 5
"""Unreached addresses in the list of links; `p2pfl status` shows all."""

NARROW_NAME = 11
LEAST_TOTALS = 60
"""Width from which names have their full width."""

LINK_CELLS = 27
"""Cells of a link besides the name: mark, round-trip time and two rates."""

TOTAL_CELLS = 33
"""Cells of the bytes sent and received."""

LEAST_SPARKS = 5
MOST_SPARKS = 30
"""Cells of the last round-trip times of a link."""


Trends = Mapping[str, Mapping[str, str]]
"""By peer and column, for `peer_rows`."""


class PeerTrends:
    """The last rounds and the labels of each peer as little charts; made anew only when they change."""

    def __init__(self) -> None:
        self._made: Trends = {}
        self._key: tuple[object, ...] = ()
        self._scores: dict[tuple[str, int], tuple[Sequence[MemberScore], dict[str, float | None]]] = {}
        """A metric of each member, by the metric and the round, with the scores it was taken from."""

    def get(self, state: State, glyphs: Glyphs) -> Trends:
        """Return the charts of all peers of *state*."""
        parts = tuple(peer.device_info.part for peer in state.peers.values() if peer.device_info is not None)
        key = (id(state), state.versions["rounds"], glyphs.is_ascii, len(state.peers), tuple(map(id, parts)))
        if key != self._key:
            self._made, self._key = self._trends(state, glyphs), key
        return self._made

    def _trends(self, state: State, glyphs: Glyphs) -> Trends:
        last = list(state.rounds)[-2 * TREND_CELLS :]
        seconds = [{update.name: update.seconds for update in one.updates} for one in last]
        scores = self._scores_of(state, last)
        trends = {}
        for peer in state.peers.values():
            values = [one.get(peer.name) for one in scores]
            times = [one[peer.name] for one in seconds if peer.name in one]
            labels = peer.device_info.labels if peer.device_info is not None else ()
            trends[peer.name] = {
                "trend": trend([value for value in values if value is not None], TREND_CELLS, glyphs),
                "times": sparkline(times, TREND_CELLS, glyphs),
                "labels": histogram(labels, TREND_CELLS, glyphs),
            }
        return trends

    def _scores_of(self, state: State, rounds: Iterable[Round]) -> list[dict[str, float | None]]:
        """Return the primary metric of each member in *rounds*; only of new scores it is computed."""
        kept, self._scores = self._scores, {}
        for one in rounds:
            key = state.primary, one.round
            known = kept.get(key)
            if known is None or known[0] is not one.scores:
                known = one.scores, {part.name: state.value_of(part) for part in one.scores}
            self._scores[key] = known
        return [values for _, values in self._scores.values()]


def peer_rows(state: State, now: float, glyphs: Glyphs, trends: Trends | None = None) -> list[Row]:
    """Return the rows of the table of peers: this node first, then by name."""
    order = sorted(state.peers.values(), key=lambda peer: (not peer.is_me, peer.name))
    return [_peer_row(state, peer, now, glyphs, (trends or {}).get(peer.name, {})) for peer in order]


def peer_activity(state: State, peer: Peer, now: float, glyphs: Glyphs) -> Text:
    """Return what *peer* does, with its colour."""
    activity = state.activity(peer)
    return Text(activity_text(activity, peer, now, glyphs), style=SYMBOLS[activity.kind].style_name)


def _peer_row(state: State, peer: Peer, now: float, glyphs: Glyphs, charts: Mapping[str, str]) -> Row:
    status, device = peer.status, peer.device_info
    is_gone = not peer.is_connected
    is_aggregator = state.open is not None and state.open.aggregator == peer.name
    scores = peer.score
    cells: dict[str, Text | str] = {
        "star": Text(glyphs.star, style=SYMBOLS["elected"].style_name) if is_aggregator else "",
        "name": clip(peer.name, 40),
        "activity": peer_activity(state, peer, now, glyphs),
        "round": str(state.round_of(status.round)) if status is not None and status.run else NONE,
        "samples": samples(device.examples) if device is not None and device.examples else NONE,
        "primary": primary_of(state, scores),
        "loss": loss_of(scores),
        "rtt": "me" if peer.is_me else NONE if is_gone or peer.rtt is None else duration(peer.rtt),
        "up": NONE if is_gone or peer.is_me else rate(peer.up),
        "down": NONE if is_gone or peer.is_me else rate(peer.down),
        "seconds": duration(peer.update.seconds) if peer.update is not None else NONE,
        "since": ago(now - peer.since) if peer.since is not None else NONE,
        "device": clip(device.device or "starting", 12) if device is not None else NONE,
        "system": clip(device.system, 14) if device is not None else NONE,
        "address": clip(peer.address, 22),
        **{key: Text(text, style="global" if key == "trend" else "quiet") for key, text in charts.items()},
    }
    return Row(peer.name, cells, dim=is_gone)


def activity_text(activity: Activity, peer: Peer, now: float, glyphs: Glyphs) -> str:
    """Return symbol, word and progress of a peer's activity."""
    symbol = SYMBOLS[activity.kind]
    mark = symbol.ascii if glyphs.is_ascii else symbol.mark
    detail = activity.detail
    if activity.progress is not None:
        detail = share(activity.progress)
    elif activity.kind == "lost" and peer.since is not None:
        detail = ago(now - peer.since)
    return f"{mark} {symbol.text} {detail}".rstrip()


def peer_lines(state: State, peer: Peer, now: float, glyphs: Glyphs) -> list[Text]:
    """Return the details of one peer, as lines."""
    status, device, update = peer.status, peer.device_info, peer.update
    role = "member" if peer.is_member else "not in the roster"
    who = Text(f"id    {peer.node or NONE}")
    where = f"addr  {clip(peer.address, 40) or NONE}   {role}{'   this node' if peer.is_me else ''}"
    if peer.since is not None:
        where += f"   {'linked' if peer.linked else 'gone'} for {ago(now - peer.since)}"
    if peer.links_made > 1:
        where += f"   {peer.links_made} links made"
    lines = [who, Text(where)]
    if device is not None:
        lines.append(
            Text(
                f"dev   {clip(device.system, 30)}  {device.cores} cores  {size(device.memory)}  "
                f"trains on {clip(device.device, 12) or NONE}   p2pfl {clip(device.software, 16)}"
            )
        )
    activity = state.activity(peer)
    now_line = Text("now   ").append_text(peer_activity(state, peer, now, glyphs))
    if activity.progress is not None:
        now_line.append("  ").append_text(progress(activity.progress, 20, glyphs))
    if status is not None and status.predicted:
        now_line.append(f"   predicted {duration(status.predicted)}")
    lines.append(now_line)
    if why := state.why_out(peer):
        lines.append(Text(f"out   {clip(why, 200)}", style="bad"))
    elif not peer.is_connected and peer.lost_reason:
        lines.append(Text(f"      {clip(peer.lost_reason, 120)}"))
    if not peer.is_me:
        rtts = sorted(peer.rtts)
        p95 = duration(rtts[int(0.95 * (len(rtts) - 1))]) if rtts else NONE
        rtt = duration(peer.rtt) if peer.rtt is not None else NONE
        lines.append(
            Text(f"link  rtt {rtt} (p95 {p95})   sent {size(peer.sent)}   received {size(peer.received)}")
        )
    counts = f"did   aggregated {peer.aggregated}   counted {peer.counted}   left out {peer.left_out}"
    if update is not None:
        counts += f"   trained {samples(update.examples)} samples in {duration(update.seconds)}"
        counts += f", cut at {update.cut}" if update.cut else ""
    lines.append(Text(counts))
    return lines


def data_lines(device: PeerDeviceInfo | None) -> list[Text]:
    """Return what a peer tells about its data where that is no number of examples by label."""
    part = device.part if device is not None else None
    if part is None:
        return [Text("not known before it has trained")]
    if part.share == "none":
        return [Text("it tells nothing about its data (--share none)")]
    lines = [f"{part.examples:,} {plural(part.examples, 'row' if part.columns else 'example')}"]
    if part.columns:
        names = [one.name for one in part.columns]
        lines.append(f"{len(names)} {plural(len(names), 'column')}: {_listed(names)}")
    elif part.input_shape:
        lines.append(f"inputs {'x'.join(map(str, part.input_shape))}")
    if part.target is not None:
        lines.append(f"target {clip(part.target.name, 40)}{'' if part.labels else ', a number'}")
    if part.labels:
        lines.append(f"{len(part.labels)} {plural(len(part.labels), 'label')}: {_listed(part.classes)}")
        lines.append("how many of each it does not tell")
    return [Text(line) for line in lines]


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(clip(name, 20) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def peer_rounds(state: State, peer: Peer, count: int) -> list[Text]:
    """Return the part of *peer* in the last *count* rounds, the latest first."""
    lines = []
    for one in reversed(list(state.rounds)[-count:]):
        update = _of(one.updates, peer.name)
        scored = one.score_of(peer.name)
        name = metric_heading(state.primary, 5).lower()
        result = f"{name} {primary_of(state, scored)}" if scored is not None else ""
        star = "aggregator" if one.aggregator == peer.name else ""
        if update is not None:
            what = f"train {duration(update.seconds):>6}  loss {update.loss:7.4f}"
        else:
            reason = next((why for name, why in one.left_out if name == peer.name), "not in the roster")
            what = clip(reason, 40)
        lines.append(Text(f"{one.round:>5}  {what:<30} {result:<10} {star}"))
    return lines


def _of(updates: Iterable[CountedUpdate], name: str) -> CountedUpdate | None:
    return next((update for update in updates if update.name == name), None)


def network_lines(
    state: State, now: float, glyphs: Glyphs, *, width: int, count: int = MAX_LINKS
) -> list[Text]:
    """Return the links of this node and their traffic, as much of it as *width* has room for."""
    others = sorted((p for p in state.peers.values() if not p.is_me), key=lambda p: (not p.linked, p.name))
    name_width = NARROW_NAME if width < LEAST_TOTALS else 16
    room = width - name_width - LINK_CELLS
    has_totals = room >= TOTAL_CELLS + LEAST_SPARKS
    sparks = min(MOST_SPARKS, room - (TOTAL_CELLS if has_totals else 0) - 1)
    lines = []
    for peer in others[:count]:
        line = Text(f"{fit(peer.name, name_width)} ")
        if why := state.why_out(peer):
            line.append_text(peer_activity(state, peer, now, glyphs))
            line.append(f": {clip(why, 100)}")
        elif peer.linked:
            line.append(glyphs.link, style="good")
            line.append(f" {duration(peer.rtt) if peer.rtt is not None else NONE:>6}")
            if sparks >= LEAST_SPARKS:
                line.append(f" {sparkline(list(peer.rtts), sparks, glyphs)}", style="quiet")
            line.append(f" {glyphs.up}{rate(peer.up):>7} {glyphs.down}{rate(peer.down):>7}")
            if has_totals:
                line.append(f"   sent {size(peer.sent):>6}   received {size(peer.received):>6}")
        else:
            since = f"gone for {ago(now - peer.since)}" if peer.since is not None else "never linked"
            line.append(glyphs.broken, style="bad").append(f" {since}")
            line.append(f": {clip(peer.lost_reason, 60)}" if peer.lost_reason else "")
        lines.append(line)
    lines += [
        Text(f"{glyphs.broken} {clip(address, 40)}: {clip(reason, 100)}", style="warning")
        for address, reason in list(state.unreached.items())[:MAX_UNREACHED]
    ]
    sent, received = sum(p.sent for p in others), sum(p.received for p in others)
    lines += [
        Text(f"sent {size(sent)}   received {size(received)}"),
        Text(f"this node: {state.cpu:.2f} cores busy, {size(state.memory)}"),
    ]
    return lines
