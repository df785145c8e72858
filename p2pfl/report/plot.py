"""Plots the primary metric and the loss over the rounds as an SVG file of plain shapes, without a library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from p2pfl.cards import metric_text
from p2pfl.events import RoundRow
from p2pfl.report.table import shown_metrics
from p2pfl.text import one_line

WIDTH, HEIGHT = 760, 520
LEFT, RIGHT, TOP, GAP = 64, 20, 66, 48
PANEL = (HEIGHT - TOP - 2 * GAP) / 2

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#667380"
"""Blue and orange of Okabe and Ito, which colour-blind people can tell apart."""

BLUE_BAND, ORANGE_BAND = "#cfe3f1", "#f7dfcc"
"""Paler variants, for the range of the members behind each line."""

MAX_DOTS = 60
"""Up to so many rounds each have a dot; more rounds have only the line."""

MAX_TICKS = 6

MAX_VALUE = 1e9
"""Larger or infinite values are left out: one diverged round would flatten all others."""


class _Scale(NamedTuple):
    """A linear map from values to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class _Panel(NamedTuple):
    """One of the plots."""

    title: str
    colour: str
    band_colour: str
    top: float
    values: Sequence[tuple[int, float]]
    band: Sequence[tuple[int, float, float]]
    """Round, lowest and highest member."""
    alone: Sequence[float] = ()
    """Values of models trained on one node's data only."""
    height: float = PANEL


def svg(rows: Iterable[RoundRow], alone: Sequence[float] = ()) -> str:
    """Return the plot of the training rounds among *rows*, as the text of an SVG file.

    *alone* holds the primary metric of models trained on one node's data only; dashed lines show it. Without
    a loss beside the primary metric there is one plot of the full height.
    """
    trained = [row for row in rows if row.kind == "train"]
    primary, *loss = shown_metrics(trained)
    height = PANEL if loss else 2 * PANEL + GAP
    values, band = values_of(trained, primary), band_of(trained, primary)
    panels = [_Panel(_title(primary), BLUE, BLUE_BAND, TOP, values, band, alone, height)]
    for name in loss:
        values, band = values_of(trained, name), band_of(trained, name)
        panels.append(_Panel(_title(name), ORANGE, ORANGE_BAND, TOP + PANEL + GAP, values, band))
    rounds = [row.training_round for row in trained] or [0, 1]
    x = _Scale(min(rounds), max(max(rounds), min(rounds) + 1), LEFT, WIDTH - RIGHT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, heading_of(trained), size=15, weight="bold"),
    ]
    for panel in panels:
        parts += _draw(panel, x)
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "round", anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def _title(metric: str) -> str:
    """Return the name of *metric* as a title: "Accuracy", "R2"."""
    return one_line(metric.replace("_", " ")).capitalize()


def heading_of(rows: Sequence[RoundRow]) -> str:
    """Return the title of a plot of *rows*: run, rounds, members, and the last primary metric."""
    if not rows:
        return "No round is committed yet"
    last = next((row for row in reversed(rows) if row.primary_value is not None), None)
    result = ""
    if last is not None and last.primary_value is not None:
        result = f", {one_line(last.primary)} {metric_text(last.primary_value)}"
        result += "" if last.committed else f" as {len(last.scores)} reported"
    rounds = "1 round" if len(rows) == 1 else f"{len(rows)} rounds"
    return f"Run {one_line(rows[-1].run[:7])}: {rounds}, {len(rows[-1].members)} members{result}"


def values_of(rows: Sequence[RoundRow], what: str) -> list[tuple[int, float]]:
    """Return round and mean of the metric *what*, where it is known and can be drawn."""
    pairs = ((row.training_round, row.metrics.get(what)) for row in rows)
    return [(round_, value) for round_, value in pairs if value is not None and _is_sound(value)]


def _is_sound(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= MAX_VALUE


def band_of(rows: Sequence[RoundRow], what: str) -> list[tuple[int, float, float]]:
    """Return round, lowest and highest member of the metric *what*, where several members measured it."""
    band = []
    for row in rows:
        values = [value for score in row.scores if (value := score.mean(what)) is not None]
        if len(values) > 1 and all(map(_is_sound, values)):
            band.append((row.training_round, min(values), max(values)))
    return band


def _draw(panel: _Panel, x: _Scale) -> list[str]:
    bottom = panel.top + panel.height
    shown = [value for _, value in panel.values] + [v for _, low, high in panel.band for v in (low, high)]
    shown += panel.alone
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    ticks = _ticks(low, high)
    y = _Scale(min(low, ticks[0]), max(high, ticks[-1], ticks[0] + 1e-9), bottom, panel.top)
    parts = [_text(LEFT, panel.top - 8, panel.title, weight="bold")]
    for tick in ticks:
        parts.append(_line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "#e3e7ea"))
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{tick:.6g}", anchor="end"))
    for tick in _whole_ticks(x.low, x.high):
        parts.append(_line(x(tick), bottom, x(tick), bottom + 4, GREY))
        parts.append(_text(x(tick), bottom + 17, str(tick), anchor="middle"))
    if panel.band:
        upper = [f"{x(r):.1f},{y(high):.1f}" for r, _, high in panel.band]
        lower = [f"{x(r):.1f},{y(low):.1f}" for r, low, _ in reversed(panel.band)]
        parts.append(
            f'<polygon points="{" ".join([*upper, *lower])}" fill="{panel.band_colour}" opacity="0.8"/>'
        )
    parts += [_line(x.start, y(value), x.end, y(value), GREY, dashes="5 4") for value in panel.alone]
    points = " ".join(f"{x(r):.1f},{y(value):.1f}" for r, value in panel.values)
    if points:
        parts.append(f'<polyline points="{points}" fill="none" stroke="{panel.colour}" stroke-width="2"/>')
    if len(panel.values) <= MAX_DOTS:
        parts += [
            f'<circle cx="{x(r):.1f}" cy="{y(value):.1f}" r="2.5" fill="{panel.colour}"/>'
            for r, value in panel.values
        ]
    parts.append(_line(LEFT, bottom, WIDTH - RIGHT, bottom, GREY))
    parts += _legend(panel)
    return parts


def _legend(panel: _Panel) -> list[str]:
    y = panel.top - 12
    left = WIDTH - RIGHT - 286
    parts = [
        _line(left, y, left + 24, y, panel.colour, 2),
        _text(left + 30, y + 4, "all held-out data"),
    ]
    if panel.band:
        parts.append(
            f'<rect x="{left + 150}" y="{y - 5}" width="24" height="10" fill="{panel.band_colour}"/>'
        )
        parts.append(_text(left + 180, y + 4, "members, min-max"))
    if panel.alone:
        low, high = min(panel.alone), max(panel.alone)
        parts.append(_line(left - 270, y, left - 246, y, GREY, dashes="5 4"))
        parts.append(_text(left - 240, y + 4, f"one node's data alone: {low:.3f} to {high:.3f}"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Return round values from just below *low* to just above *high*."""
    span = max(high - low, abs(high) / 100, 1e-6)
    rough = span / (MAX_TICKS - 2)
    power = 10 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough), 10 * power)
    first = math.floor(low / step)
    last = math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _whole_ticks(low: float, high: float) -> list[int]:
    """Return round numbers from *low* to *high*, and *low* itself."""
    first, last = int(low), int(high)
    rough = max(1, math.ceil((last - first) / 10))
    power = 10 ** (len(str(rough)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    begin = math.ceil((first + step / 2) / step) * step
    return [first, *range(begin, last + 1, step)]


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1, *, dashes: str = ""
) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line {place} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="#22282f">{escape(text)}</text>'
    )
