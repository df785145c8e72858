"""What the charts show: a metric on the data of all, of this node and of chosen members; what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from p2pfl.cards import PERSONAL, UNSHOWN_SUMS
from p2pfl.observe.marks import NO_QUORUM, RunMark
from p2pfl.observe.peers import Peer
from p2pfl.observe.rounds import Round
from p2pfl.observe.state import State
from tui.symbols import ago, clip
from tui.views.curves import KeptCurves, Placed
from tui.widgets.canvas import Marker
from tui.widgets.plot import Band, ChartMark, ChartValues, Series
from tui.widgets.scale import Points, number

TITLES = {"f1": "Macro F1", "r2": "R2", "mae": "MAE", "mse": "MSE", "rmse": "RMSE"}
"""Metrics whose names are no words."""

CHOSEN: tuple[tuple[str, Marker], ...] = (
    ("third", "long"),
    ("fourth", "short"),
    ("fifth", "dashdot"),
    ("sixth", "pairs"),
    ("seventh", "sparse"),
)
"""Colours and line styles of the chosen members; with all, this node and the best alone that makes eight."""

LETTERS = "abcde"
"""On the curves of the chosen members, which may lie close together."""

MOST_CHOSEN = len(CHOSEN)

NAME_CELLS = 14


def chart_title(metric: str) -> str:
    """Return the name of *metric* as a chart's title: "Accuracy", "R2", "Macro F1", "Personal MAE"."""
    plain = metric.removeprefix(PERSONAL)
    title = TITLES.get(plain, plain.replace("_", " ").capitalize())
    return clip(f"Personal {title if plain in TITLES else title.lower()}" if plain != metric else title, 20)


def metrics_of(state: State) -> tuple[str, ...]:
    """Return the metrics that a chart can show: the primary one, the loss, then all others by name."""
    last = next((one for one in reversed(list(state.rounds)) if one.metrics), None)
    known = set(last.metrics if last is not None else state.measures.metrics) - UNSHOWN_SUMS
    first = [name for name in (state.primary, "loss") if name == state.primary or name in known]
    return (*dict.fromkeys(first), *sorted(known - set(first)))


class ChartData:
    """The values of the charts; made anew only when a round, a mark or the choice of members changes."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], ChartValues] = {}
        self._key: tuple[object, ...] = ()
        self._curves = KeptCurves()

    def get(
        self, state: State, metric: str, *, over_time: bool = False, chosen: Sequence[str] = ()
    ) -> ChartValues:
        """Return the chart of *metric*, with the curves of those of the *chosen* members that are known."""
        chosen = tuple(name for name in chosen if name in state.peers)  # others are of an earlier run
        key = (state, state.versions["rounds"], state.name, len(state.members), chosen)
        if key != self._key:
            self._made, self._key = {}, key
        made = self._made.get((metric, over_time))
        if made is None:
            made = self._made[metric, over_time] = metric_chart(
                state, metric, over_time=over_time, chosen=chosen, curves=self._curves
            )
        return made


def metric_chart(
    state: State,
    metric: str,
    *,
    over_time: bool = False,
    chosen: Sequence[str] = (),
    curves: KeptCurves | None = None,
) -> ChartValues:
    """Return *metric* on all data, on this node's, on those of *chosen* members, and the members' range.

    What *curves* has kept of an earlier chart is not computed again.
    """
    curves = curves or KeptCurves()
    start = _start(state)
    rounds = [
        (x, one) for one in state.rounds if (x := _place(one, start if over_time else None)) is not None
    ]
    all_ = _common(curves, state, rounds, metric)
    series = [
        Series("global", all_, "global"),
        Series("me", _own(curves, state, rounds, state.name, metric), "me", "dashed"),
    ]
    direction = state.measures.direction_of(metric)
    if metric == state.primary and state.local_only and all_:
        best = (max if direction == "max" else min)(state.local_only.values())
        level = (all_[0][0], best), (all_[-1][0], best)
        series.append(Series("best alone", level, "alone", "dotted", is_level=True))
    others = [name for name in chosen if name != state.name][:MOST_CHOSEN]
    for name, letter, (style, marker) in zip(others, LETTERS, CHOSEN, strict=False):
        points = _own(curves, state, rounds, name, metric)
        series.append(Series(clip(name, NAME_CELLS), points, style, marker, letter))
    return ChartValues(
        chart_title(metric),
        tuple(series),
        _band(curves, state, rounds, metric),
        "time" if over_time else "round",
        chart_marks(state, over_time=over_time),
        direction == "min",
        _best(all_, direction == "max", over_time=over_time),
    )


def _start(state: State) -> float | None:
    """Return when the first round was decided whose time is known: the begin of the axis of time."""
    return next((one.committed_at for one in state.rounds if one.committed_at is not None), None)


def _place(one: Round, start: float | None) -> float | None:
    """Return where a round is on the axis: its number, or with a *start* its time since then."""
    if start is None:
        return float(one.round)
    return one.committed_at - start if one.committed_at is not None else None


def _common(curves: KeptCurves, state: State, rounds: Placed, metric: str) -> Points:
    """Return *metric* on the data of all; nothing where only some have reported."""

    def value(one: Round) -> float | None:
        return None if one.is_partial else one.metrics.get(metric)

    return curves.of(state.rounds, "all", metric).points(rounds, value)


def _own(curves: KeptCurves, state: State, rounds: Placed, name: str, metric: str) -> Points:
    """Return *metric* on the data of member *name*."""

    def value(one: Round) -> float | None:
        score = one.score_of(name)
        return score.mean(metric) if score is not None else None

    return curves.of(state.rounds, "own", metric, name).points(rounds, value)


def _band(curves: KeptCurves, state: State, rounds: Placed, metric: str) -> Band | None:
    """Return the range of the members' values; None for a single member."""

    def edge(side: Literal[0, 1]) -> tuple[tuple[float, float], ...]:
        def value(one: Round) -> float | None:
            found = one.score_range
            return found.ranges[metric][side] if found is not None and metric in found.ranges else None

        points = curves.of(state.rounds, "range", metric, str(side)).points(rounds, value)
        return tuple([(x, y) for x, y in points if y is not None])

    low = edge(0)
    return Band(low, edge(1)) if len(state.members) >= 2 and low else None


def _best(points: Sequence[tuple[float, float | None]], is_most: bool, *, over_time: bool) -> str:
    """Return the best value so far, and where it was first reached."""
    known = [(y, x) for x, y in points if y is not None]
    if not known:
        return ""
    best = (max if is_most else min)(y for y, _ in known)
    place = next(x for y, x in known if y == best)
    where = f"after {ago(place)}" if over_time else f"in round {place:.0f}"
    return f"{'highest' if is_most else 'lowest'} {number(best)} {where}"


def chart_marks(state: State, *, over_time: bool) -> tuple[ChartMark, ...]:
    """Return what happened to the members, as marks; over time only what this node has seen."""
    if not over_time:
        return tuple(ChartMark(float(mark.round), mark.kind, _words(mark)) for mark in state.marks)
    start = _start(state)
    return tuple(
        ChartMark(max(0.0, mark.time - start), mark.kind, _words(mark))
        for mark in state.marks
        if mark.time is not None and start is not None
    )


def _words(mark: RunMark) -> str:
    name = clip(mark.name, NAME_CELLS)
    match mark.kind:
        case "loss":
            return f"{name} gone"
        case "join":
            return f"{name} joined"
        case "election":
            return f"{name} aggregates"
        case "pause":
            return NO_QUORUM if mark.name == NO_QUORUM else "paused"
        case "resume":
            return "goes on"


def best_and_worst(state: State) -> tuple[str, ...]:
    """Return the other members with the best and the worst primary metric on their own data."""
    last = next((one for one in reversed(list(state.rounds)) if one.scores and not one.is_partial), None)
    if last is None:
        return ()
    values = {
        score.name: value
        for score in last.scores
        if score.name != state.name and (value := score.mean(state.primary)) is not None
    }
    order = sorted(values, key=lambda name: values[name], reverse=state.measures.direction == "max")
    return tuple(dict.fromkeys([*order[:1], *order[-1:]]))


def peer_chart(state: State, peer: Peer, metric: str) -> ChartValues:
    """Return the chart of *metric* on *peer*'s own data and on all data."""
    rounds, curves = [(float(one.round), one) for one in state.rounds], KeptCurves()
    all_ = _common(curves, state, rounds, metric)
    points = _own(curves, state, rounds, peer.name, metric)
    own = Series(clip(peer.name, NAME_CELLS), points, "me", "dashed")
    direction = state.measures.direction_of(metric)
    marks = tuple(
        ChartMark(float(mark.round), mark.kind, _words(mark))
        for mark in state.marks
        if mark.name == peer.name
    )
    title = f"{chart_title(metric)} on its data and on all"
    best = _best(own.points, direction == "max", over_time=False)
    return ChartValues(
        title, (Series("global", all_, "global"), own), None, "round", marks, direction == "min", best
    )
