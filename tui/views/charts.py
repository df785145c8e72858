"""Chart series of the primary metric and the loss: on the data of all, of this node, and of each member."""

from __future__ import annotations

from p2pfl.observe.peers import Peer
from p2pfl.observe.state import State
from tui.symbols import clip
from tui.widgets.plot import Band, Series


def primary_series(state: State, *, over_time: bool) -> tuple[list[Series], Band | None]:
    """Return the primary metric on all data and on this node's data, and the range of the members."""
    return _series(state, state.primary, over_time=over_time)


def chart_title(metric: str) -> str:
    """Return the name of *metric* as a chart's title: "Accuracy", "R2"."""
    return clip(metric.replace("_", " ").capitalize(), 20)


def loss_series(state: State, *, over_time: bool) -> tuple[list[Series], Band | None]:
    """Return the loss on all data and on this node's data, and the range of the members."""
    return _series(state, "loss", over_time=over_time)


def _series(state: State, what: str, *, over_time: bool) -> tuple[list[Series], Band | None]:
    all_, mine, low, high = [], [], [], []
    name = state.name
    start = next((one.committed_at for one in state.rounds if one.committed_at is not None), None)
    for one in state.rounds:
        if over_time:
            if one.committed_at is None or start is None:
                continue
            x = one.committed_at - start
        else:
            x = float(one.round)
        all_.append((x, None if one.is_partial else one.metrics.get(what)))
        value = None
        if (score_range := one.score_range) is not None:
            own = score_range.by_name.get(name)
            value = own.mean(what) if own is not None else None
            if what in score_range.ranges:
                least, most = score_range.ranges[what]
                low.append((x, least))
                high.append((x, most))
        mine.append((x, value))
    series = [Series("global", tuple(all_), "global", "line"), Series("me", tuple(mine), "me", "dashed")]
    if what == state.primary and state.local_only and all_:
        best = (max if state.measures.direction == "max" else min)(state.local_only.values())
        series.append(
            Series("best alone", ((all_[0][0], best), (all_[-1][0], best)), "alone", "dotted"),
        )
    band = Band(tuple(low), tuple(high)) if len(state.members) > 1 and low else None
    return series, band


def peer_series(state: State, peer: Peer) -> list[Series]:
    """Return the primary metric on *peer*'s own data and on all data."""
    own = []
    all_ = []
    for one in state.rounds:
        own.append((float(one.round), state.value_of(one.score_of(peer.name))))
        all_.append((float(one.round), state.value_of(one) if not one.is_partial else None))
    return [
        Series("global", tuple(all_), "global", "line"),
        Series(clip(peer.name, 14), tuple(own), "me", "dashed"),
    ]
