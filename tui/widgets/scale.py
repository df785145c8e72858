"""The scales of a chart: what part of the values is visible, round ticks, and how values are written.

On a logarithmic scale a view, and all that is drawn in it, holds decimal logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tui.symbols import ago

XKind = Literal["round", "time"]
"""Whether a chart is over rounds, or over seconds since the first one was decided."""

LABEL_WIDTH = 6
"""Cells left of the axis."""

EARLY = 0.2
"""Share of a long curve at its begin that does not widen a linear axis: people compare what comes later."""

LONG = 12
"""Points from which a curve is long."""

MOST_INTERVALS = 4
"""Intervals of an axis between its round values."""

MOST = 1e12
"""Larger values are gaps: a diverged training on another device must not scale the axis."""

LEAST_LOG = 1e-12
"""Smaller values are gaps on a logarithmic scale."""

DECADE = 10.0
"""A loss whose values differ by this factor is drawn on a logarithmic scale, if nobody chooses."""

STEPS = 3
"""Steps between round values that are tried."""

MOST_X = 7
"""Intervals of the horizontal axis between its round values."""

X_CELLS = 7
"""Cells of the horizontal axis for each label."""

Points = tuple[tuple[float, float | None], ...]


class View(NamedTuple):
    """The visible part of a chart."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float


class Tick(NamedTuple):
    """A round value of an axis."""

    value: float
    """On the scale of the view."""
    label: str


def is_drawn(value: float) -> bool:
    """Return whether an axis can show *value*."""
    return -MOST <= value <= MOST  # not of NaN


def scaled(points: Points, *, is_log: bool) -> Points:
    """Return *points* on the scale that is drawn; None where it cannot show the value."""
    if not is_log:
        values = [y for _, y in points if y is not None]
        if not values or (min(values) >= -MOST and max(values) <= MOST and not math.isnan(sum(values))):
            return points
        return tuple([(x, y if y is not None and -MOST <= y <= MOST else None) for x, y in points])
    log10 = math.log10
    return tuple([(x, log10(y) if y is not None and LEAST_LOG <= y <= MOST else None) for x, y in points])


def spans_a_decade(points: Points) -> bool:
    """Return whether the values of *points* are positive and the largest is ten times the least, or more."""
    values = [y for _, y in points if y is not None and is_drawn(y)]
    return bool(values) and min(values) >= LEAST_LOG and max(values) >= DECADE * min(values)


def bounds(
    curves: Sequence[Points], edges: Sequence[Points] = (), *, zoom: float = 1.0, is_log: bool = False
) -> View | None:
    """Return the range of the scaled *curves* and of the *edges* of a band; None without any value.

    If *zoom* is above 1, it is that of the last part. The begin of a long curve does not widen a linear axis.
    An axis of values from 0 to 1 stays within them.
    """
    ends = [x for points in curves for x in _ends(points)]
    if not ends:
        return None
    x_low, x_high = min(ends), max(ends)
    x_low = x_high - (x_high - x_low) / max(1.0, zoom)
    counts = (sum(1 for x, y in points if y is not None and x >= x_low) for points in curves)
    is_long = not is_log and any(count >= LONG for count in counts)
    settled = x_low + EARLY * (x_high - x_low) if is_long else x_low
    shown = [y for points in (*curves, *edges) for x, y in points if y is not None and settled <= x <= x_high]
    y_low, y_high = min(shown), max(shown)
    x_high = x_high if x_high > x_low else x_low + 1.0
    room = (y_high - y_low) * 0.05 or max(abs(y_high) * 0.05, 0.01)
    if is_log:
        return View(x_low, x_high, y_low, y_high if y_high > y_low else y_high + room)
    low, high = y_low - room, y_high + room
    if y_low >= 0:
        low = max(0.0, low)
        high = min(1.0, high) if y_high <= 1.0 else high
    return View(x_low, x_high, low, high)


def _ends(points: Points) -> list[float]:
    """Return where a curve begins and ends."""
    first = next((x for x, y in points if y is not None), None)
    last = next((x for x, y in reversed(points) if y is not None), None)
    return [end for end in (first, last) if end is not None]


def with_ticks(view: View, rows: int, *, is_log: bool = False) -> tuple[View, list[Tick]]:
    """Return *view* from one round value to another, and round values, at most one in two *rows*."""
    intervals = max(1, min(MOST_INTERVALS, (rows - 1) // 2))
    return _log_ticks(view, intervals) if is_log else _linear_ticks(view, intervals)


def _linear_ticks(view: View, intervals: int) -> tuple[View, list[Tick]]:
    """Choose the step that leaves least room empty, of those with at most *intervals* and if possible two."""
    if view.y_low < 0 < view.y_high:
        intervals = max(2, intervals)  # zero is one of the values
    tried: list[tuple[bool, float, float, int, int]] = []
    # Nearly equal values have an axis too: its step is one that floats can tell apart there.
    resolution = 4 * math.ulp(max(abs(view.y_low), abs(view.y_high)))
    step = _round_step(max((view.y_high - view.y_low) / intervals, resolution))
    while len(tried) < STEPS:
        first = math.floor(view.y_low / step + 1e-9)
        last = max(first + 1, math.ceil(view.y_high / step - 1e-9))
        if last - first <= intervals:
            tried.append(
                (last - first < min(2, intervals), round((last - first) * step, 12), step, first, last)
            )
        step = _round_step(step * 1.01)
    _, _, step, first, last = min(tried)
    values = [round(place * step, 12) for place in range(first, last + 1)]
    ticks = [Tick(value, round_number(value)) for value in values]
    return view._replace(y_low=values[0], y_high=values[-1]), ticks


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below *least*."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(step for factor in (1, 2, 2.5, 5, 10) if (step := factor * power) >= least * (1 - 1e-9))


def _log_ticks(view: View, intervals: int) -> tuple[View, list[Tick]]:
    """Return 1, 2 and 5 times the powers of ten, or fewer: the most that fit, from one to another."""
    least, most = math.floor(view.y_low), math.ceil(view.y_high)
    grid = [
        (math.log10(factor) + decade, f"{factor}e{decade}")
        for decade in range(least, most + 1)
        for factor in (1, 2, 5)
    ]
    low = max(place for place, (value, _) in enumerate(grid) if value <= view.y_low + 1e-9)
    high = min(place for place, (value, _) in enumerate(grid) if value >= view.y_high - 1e-9)
    around = grid[low : max(high, low + 1) + 1]
    view = view._replace(y_low=around[0][0], y_high=around[-1][0])
    sparse = [[one for one in around if one[1].startswith("1e")][::every] for every in (1, 2, 3, 5, 10)]
    fitting = [ticks for ticks in (around, *sparse) if 2 <= len(ticks) <= intervals + 1]
    chosen = fitting[0] if fitting else [around[0], around[-1]]
    return view, [Tick(value, round_number(float(text))) for value, text in chosen]


def x_ticks(view: View, columns: int, kind: XKind) -> list[Tick]:
    """Return the first and the last value of the horizontal axis, and round ones between them."""
    low, high = view.x_low, view.x_high
    if kind == "round":
        low, high = float(math.ceil(low)), float(math.floor(high))
    step = _x_step((high - low) / max(1.0, min(MOST_X, columns / X_CELLS)), high, kind)
    between = [place * step for place in range(math.floor(low / step) + 1, math.ceil(high / step))]
    values = [low, *between, high] if high > low else [low]
    return [Tick(value, f"{value:.0f}" if kind == "round" else ago(value)) for value in values]


def _x_step(least: float, high: float, kind: XKind) -> float:
    """Return a round number of rounds, or of the unit in which `ago` writes *high* seconds."""
    if kind == "round":
        step = max(1.0, _round_step(least))
        return 5.0 if step == 2.5 else step
    units = ((99, 1), (5_400, 60), (172_800, 3_600))
    unit = next((unit for limit, unit in units if high <= limit), 86_400)
    factors = (1, 2, 5, 10, 15, 20, 30, 60, 100)
    return next((float(factor * unit) for factor in factors if factor * unit >= least), _round_step(least))


def round_number(value: float) -> str:
    """Return a round value of an axis without needless digits, in at most six characters: 0.25, 1, 40."""
    for text in (f"{value:.6g}", f"{value:.4g}", f"{value:.0e}"):
        if len(text) <= LABEL_WIDTH:
            return text
    return text.replace("e-0", "e-").replace("e+", "e")


def number(value: float) -> str:
    """Return a value of a chart in at most five characters: 0.961, 12.3, 1e+09, -0.12, 1e-5."""
    sign, amount = ("-", -value) if value < 0 else ("", value)
    for decimals, room in ((2, 4), (1, 4), (0, 4)) if sign else ((3, 5), (1, 4), (0, 5)):
        if len(text := f"{amount:.{decimals}f}") <= room:
            short = f"{amount:.0e}".replace("e-0", "e-")
            is_tiny = amount > 0 and not float(text) and len(sign + short) <= 5
            return sign + (short if is_tiny else text)
    text = f"{amount:.0e}"
    return sign + (text.replace("e+0", "e").replace("e+", "e") if sign else text)
