"""Draws line charts as text, with braille dots or, in ASCII, with letters.

A braille cell holds two by four dots, so a chart of 40 by 8 cells has 80 by 32 points. Series differ by
colour and line style: solid, dashed or dotted. A missing value leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.text import Text

from tui.symbols import Glyphs, ago

Marker = Literal["line", "dashed", "dotted"]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the braille patterns, by row and column of a cell."""

_ASCII_MARKS = {"line": "*", "dashed": "o", "dotted": "."}

ASCII_SHADE = ":"

_EVERY = {"line": (1, 1), "dashed": (6, 3), "dotted": (4, 1)}
"""Period of each line style in dots, and how many of them are drawn."""

LABEL_WIDTH = 6
"""Cells left of the axis."""

EARLY = 0.2
"""Share of a long curve at its begin that does not widen the axis: people compare what comes later."""

LONG = 12
"""Points from which a curve is long."""

MOST_INTERVALS = 4
"""Intervals of an axis between its round values."""

MOST = 1e12
"""Larger values are gaps: a diverged training on another device must not scale the axis."""


class Series(NamedTuple):
    """One line."""

    name: str
    points: tuple[tuple[float, float | None], ...]
    style: str
    marker: Marker = "line"


class Band(NamedTuple):
    """The range between two lines."""

    low: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]


class View(NamedTuple):
    """The visible part of a chart."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float


def bounds(series: Sequence[Series], band: Band | None, zoom: float = 1.0) -> View | None:
    """Return the range of the values, only of the last part if *zoom* is above 1; None without any value.

    Values are accuracies or losses: none is below 0, and an axis of values up to 1 ends at 1.
    """
    points = [(x, y) for one in series for x, y in one.points if y is not None and is_drawn(y)]
    if not points:
        return None
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    x_low = x_high - (x_high - x_low) / max(1.0, zoom)
    is_long = len({x for x, _ in points if x >= x_low}) >= LONG
    settled = x_low + EARLY * (x_high - x_low) if is_long else x_low
    shown = [y for x, y in points if x >= settled]
    if band is not None:
        shown += [y for x, y in (*band.low, *band.high) if x >= settled and is_drawn(y)]
    y_low, y_high = min(shown), max(shown)
    room = (y_high - y_low) * 0.05 or max(abs(y_high) * 0.05, 0.01)
    top = min(1.0, y_high + room) if y_high <= 1.0 else y_high + room
    return View(x_low, x_high if x_high > x_low else x_low + 1.0, max(0.0, y_low - room), top)


def with_round_values(view: View, rows: int) -> tuple[View, list[float]]:
    """Return *view* from one round value to another, and the round values, at most one in two *rows*."""
    intervals = max(1, min(MOST_INTERVALS, (rows - 1) // 2))
    step = _round_step((view.y_high - view.y_low) / intervals)
    first, last = math.floor(view.y_low / step + 1e-9), math.ceil(view.y_high / step - 1e-9)
    while last - first > intervals:
        step = _round_step(step * 1.01)
        first, last = math.floor(view.y_low / step + 1e-9), math.ceil(view.y_high / step - 1e-9)
    values = [round(place * step, 12) for place in range(first, last + 1)]
    return view._replace(y_low=values[0], y_high=values[-1]), values


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below *least*."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(step for factor in (1, 2, 2.5, 5, 10) if (step := factor * power) >= least * (1 - 1e-9))


def is_drawn(value: float) -> bool:
    """Return whether an axis can show *value*."""
    return 0.0 <= value <= MOST  # neither an infinite value nor NaN


def draw_chart(
    series: Sequence[Series],
    band: Band | None,
    width: int,
    height: int,
    glyphs: Glyphs,
    *,
    x_kind: Literal["round", "time"] = "round",
    zoom: float = 1.0,
    cursor: float | None = None,
) -> list[Text]:
    """Return *height* lines of at most *width* cells: the plot, and below it the axis with its labels.

    Where lines cross, the first of *series* is on top. Without room for a plot there are no lines.
    """
    columns, rows = width - LABEL_WIDTH - 1, height - 2
    view = bounds(series, band, zoom)
    if columns < 8 or rows < 2:
        return []
    if view is None:
        nothing = Text(f"{'':{LABEL_WIDTH}} nothing is evaluated yet"[:width], style="quiet")
        return [Text("")] * (rows // 2) + [nothing]
    view, values = with_round_values(view, rows)
    labels = _axis_labels(view, values, rows)
    canvas = _Canvas(columns, rows, view, is_ascii=glyphs.is_ascii)
    if band is not None:
        canvas.fill(band)
    for one in reversed(series):
        canvas.line(one)
    corner, dash, tick, wall = ("+", "-", "+", "|") if glyphs.is_ascii else ("└", "─", "┤", "│")
    lines = []
    for row, text in enumerate(canvas.texts()):
        label = labels.get(row, "")
        left = Text(f"{label:>{LABEL_WIDTH}}{tick if label else wall}", style="quiet")
        lines.append(Text("").append_text(left).append_text(text))
    axis = Text(" " * LABEL_WIDTH + corner, style="quiet").append(dash * columns, style="quiet")
    if cursor is not None:
        place = canvas.column(cursor)
        if 0 <= place < columns:
            axis.stylize("reverse", LABEL_WIDTH + 1 + place, LABEL_WIDTH + 2 + place)
    return [*lines, axis, _x_labels(view, columns, x_kind)]


class _Canvas:
    """Cells with dots, and whose they are."""

    def __init__(self, columns: int, rows: int, view: View, *, is_ascii: bool) -> None:
        self._columns, self._rows, self._is_ascii = columns, rows, is_ascii
        self._x_low, self._x_range, self._x_last = view.x_low, view.x_high - view.x_low, 2 * columns - 1
        self._y_low, self._y_range, self._y_last = view.y_low, view.y_high - view.y_low, 4 * rows - 1
        self._bits = [[0] * columns for _ in range(rows)]
        self._styles: list[list[str]] = [[""] * columns for _ in range(rows)]
        self._letters: list[list[str]] = [[" "] * columns for _ in range(rows)]

    def column(self, x: float) -> int:
        """Return the cell column of *x*."""
        return self._dot_x(x) // 2

    def _dot_x(self, x: float) -> int:
        return round((x - self._x_low) / self._x_range * self._x_last)

    def _dot_y(self, y: float) -> int:
        """Return the dot row of *y*; of a value far outside, a row outside that is not as far."""
        share = (y - self._y_low) / self._y_range
        if share < -2.0:
            share = -2.0
        elif share > 3.0:
            share = 3.0
        return round((1 - share) * self._y_last)

    def _set(self, dot_x: int, dot_y: int, style: str, letter: str) -> None:
        if 0 <= dot_x < 2 * self._columns and 0 <= dot_y < 4 * self._rows:
            row, column = dot_y // 4, dot_x // 2
            self._bits[row][column] |= DOTS[dot_y % 4][dot_x % 2]
            self._styles[row][column] = style
            self._letters[row][column] = letter

    def fill(self, band: Band) -> None:
        """Draw *band* as a shade: every fourth dot between its edges."""
        edges = [
            (self._dot_x(x), self._dot_y(high), self._dot_y(low))
            for (x, low), (_, high) in zip(band.low, band.high, strict=False)
            if is_drawn(low) and is_drawn(high)
        ]
        drawn: set[tuple[int, int, int]] = set()  # in a long run many rounds share a column
        for (start, top, bottom), (end, next_top, next_bottom) in zip(
            edges, edges[1:] or edges, strict=False
        ):
            for x in range(max(0, start), min(2 * self._columns - 1, end) + 1):
                if x == start:
                    upper, lower = top, bottom
                else:
                    part = (x - start) / (end - start)
                    upper = round(top + part * (next_top - top))
                    lower = round(bottom + part * (next_bottom - bottom))
                if (x, upper, lower) in drawn:
                    continue
                drawn.add((x, upper, lower))
                first = max(0, upper)
                first += (2 * x - first) % 4
                for y in range(first, min(4 * self._rows - 1, lower) + 1, 4):
                    self._set(x, y, "band", ASCII_SHADE)

    def line(self, one: Series) -> None:
        """Draw a line from value to value, with a gap at a missing value."""
        before: tuple[int, int] | None = None
        for x, y in one.points:
            if y is None or not is_drawn(y):
                before = None
                continue
            here = self._dot_x(x), self._dot_y(y)
            if before is None:
                self._set(*here, one.style, _ASCII_MARKS[one.marker])
            elif here != before and here[0] >= 0:
                self._stroke(before, here, one)
            before = here

    def _stroke(self, start: tuple[int, int], end: tuple[int, int], one: Series) -> None:
        """Draw from dot to dot, without those that the line style omits."""
        every, drawn = _EVERY[one.marker]
        (x, y), across, down = start, end[0] - start[0], end[1] - start[1]
        letter, style = _ASCII_MARKS[one.marker], one.style
        if not across:  # most strokes of a long run
            for dot_y in range(min(y, y + down), max(y, y + down) + 1) if x % every < drawn else ():
                self._set(x, dot_y, style, letter)
            return
        steps = max(abs(across), abs(down))
        for step in range(steps + 1):
            dot_x = round(x + across * step / steps)
            if dot_x % every < drawn:
                self._set(dot_x, round(y + down * step / steps), style, letter)

    def texts(self) -> list[Text]:
        """Return the rows."""
        lines = []
        for row in range(self._rows):
            line = Text()
            run, style = "", ""  # cells of one style are one span: the fewer, the faster it is drawn
            for column in range(self._columns):
                bits = self._bits[row][column]
                if bits and self._styles[row][column] != style:
                    line.append(run, style=style or None)
                    run, style = "", self._styles[row][column]
                sign = self._letters[row][column] if self._is_ascii else chr(0x2800 + bits)
                run += sign if bits else " "
            line.append(run, style=style or None)
            lines.append(line)
        return lines


def _axis_labels(view: View, values: Sequence[float], rows: int) -> dict[int, str]:
    """Return the labels left of the rows, by row: those of the round *values*."""
    height = view.y_high - view.y_low
    return {round((view.y_high - value) / height * (rows - 1)): round_number(value) for value in values}


def round_number(value: float) -> str:
    """Return a round value of an axis without needless digits, in at most six characters: 0.25, 1, 40."""
    text = f"{value:.4g}"
    return text if len(text) <= LABEL_WIDTH else f"{value:.0e}"


def number(value: float) -> str:
    """Return a value of a chart in at most five characters: 0.961, 12.3, 1e+09."""
    for least, form in ((99_999.5, ".0e"), (99.95, ".0f"), (9.9995, ".1f")):
        if value >= least:
            return f"{value:{form}}"
    return f"{value:.3f}"


def _x_labels(view: View, columns: int, kind: Literal["round", "time"]) -> Text:
    """Return the labels below the axis, rounds or ages, none over another."""
    count = max(2, min(5, columns // 8))
    values = [view.x_low + (view.x_high - view.x_low) * place / (count - 1) for place in range(count)]
    if kind == "round":
        values = sorted({float(round(value)) for value in values})
    line = [" "] * columns
    end, previous = 0, ""
    for value in values:
        label = f"{value:.0f}" if kind == "round" else ago(value)
        at = round((value - view.x_low) / (view.x_high - view.x_low) * (columns - 1))
        at = min(max(0, at), columns - len(label))
        if at >= end and label != previous:
            line[at : at + len(label)] = label
            end, previous = at + len(label) + 1, label
    return Text(" " * (LABEL_WIDTH + 1) + "".join(line).rstrip(), style="quiet")
