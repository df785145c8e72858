"""Draws line charts as text: curves, a shaded band, axes with round values, marks of what happened, a cursor.

`draw_plot` is a pure function of the values and the size. A `Plot` stays valid as long as both do: moving the
cursor draws no curve again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.text import Text

from tui.symbols import MARKS, Glyphs, MarkKind
from tui.widgets.canvas import LETTERS, RULE, Canvas, Marker
from tui.widgets.scale import (
    LABEL_WIDTH,
    Points,
    Tick,
    View,
    XKind,
    bounds,
    scaled,
    spans_a_decade,
    with_ticks,
    x_ticks,
)

MOST_RULES = 8
"""Marks up to this number have a thin line up through the plot; more of them would hide it."""


class Series(NamedTuple):
    """One line."""

    name: str
    points: Points
    style: str
    marker: Marker = "line"
    letter: str = ""
    """Stands on the curve and in the legend where a colour and dashes do not tell it from the others."""
    is_level: bool = False
    """Whether it is one value for all of the axis: its points are only its two ends."""


class Band(NamedTuple):
    """The range between two lines."""

    low: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]


class ChartMark(NamedTuple):
    """Something that happened at a place of the horizontal axis."""

    x: float
    kind: MarkKind
    text: str
    """What happened, for the cursor."""


class ChartValues(NamedTuple):
    """What a chart shows."""

    title: str = ""
    series: tuple[Series, ...] = ()
    band: Band | None = None
    x_kind: XKind = "round"
    marks: tuple[ChartMark, ...] = ()
    is_loss: bool = False
    """Whether the scale is logarithmic where the values ask for it: of a loss, where less is better."""
    note: str = ""
    """Shown on the lower border while there is no cursor there."""


class ChartLook(NamedTuple):
    """How a chart is drawn."""

    x_kind: XKind = "round"
    zoom: float = 1.0
    """Above 1 only the last part is visible."""
    is_log: bool = False


class Plot(NamedTuple):
    """A chart that is drawn."""

    lines: list[Text]
    """The rows of the plot, the axis, and its labels; empty without room."""
    canvas: Canvas | None = None
    """None without a value."""
    view: View = View(0.0, 1.0, 0.0, 1.0)
    columns: int = 0

    def column_of(self, x: float) -> int | None:
        """Return the cell of a line that *x* is at; None outside the view."""
        view = self.view
        if self.canvas is None or not view.x_low <= x <= view.x_high:
            return None
        return LABEL_WIDTH + 1 + self.canvas.column_of(x)

    def x_at(self, cell: int) -> float | None:
        """Return the value of the horizontal axis at a *cell* of a line; None left or right of the plot."""
        column = cell - LABEL_WIDTH - 1
        if self.canvas is None or not 0 <= column < self.columns:
            return None
        view = self.view
        return view.x_low + (view.x_high - view.x_low) * column / max(1, self.columns - 1)

    def with_cursor(self, x: float, series: Sequence[Series], look: ChartLook, glyphs: Glyphs) -> list[Text]:
        """Return the lines with a vertical line at *x*, and a dot at the value of each of *series* there."""
        place = self.column_of(x)
        if place is None or self.canvas is None:
            return self.lines
        dots: dict[int, tuple[str, str]] = {}
        for one in reversed(series):
            points = one.points[:1] if one.is_level else tuple(point for point in one.points if point[0] == x)
            values = [y for _, y in scaled(points, is_log=look.is_log) if y is not None]
            cell = self.canvas.cell_of(x, values[0]) if values else None
            if cell is not None:
                letter = one.letter or (LETTERS[one.marker] if glyphs.is_ascii else glyphs.full)
                dots[cell[0]] = letter, one.style
        lines = [
            _crossed(line, place, dots.get(row), "|" if glyphs.is_ascii else "│")
            for row, line in enumerate(self.lines[:-2])
        ]
        axis = self.lines[-2].copy()
        axis.stylize("reverse", place, place + 1)
        return [*lines, axis, self.lines[-1]]


def _crossed(line: Text, place: int, dot: tuple[str, str] | None, wall: str) -> Text:
    """Return a row of a plot with *dot*, or the line of the cursor where nothing is drawn, at *place*."""
    crossed = line.copy()
    crossed.pad_right(max(0, place + 1 - len(line)))
    plain = crossed.plain
    if dot is None and plain[place] not in f" {RULE}":
        crossed.stylize("bold", place, place + 1)
        return crossed
    letter, style = dot or (wall, "quiet")
    crossed.plain = plain[:place] + letter + plain[place + 1 :]
    crossed.stylize(style, place, place + 1)
    crossed.stylize("bold" if dot else "not bold", place, place + 1)
    return crossed


def is_log_by_default(series: Sequence[Series]) -> bool:
    """Return whether a loss is drawn on a logarithmic scale: where its main curve spans ten times or more."""
    return bool(series) and spans_a_decade(series[0].points)


def draw_plot(
    series: Sequence[Series],
    band: Band | None,
    width: int,
    height: int,
    glyphs: Glyphs,
    look: ChartLook | None = None,
    marks: Iterable[ChartMark] = (),
) -> Plot:
    """Draw *height* lines of at most *width* cells: the plot, and below it the axis with its labels.

    Where lines cross, the first of *series* is on top. Without room for a plot there are no lines.
    """
    look = look or ChartLook()
    columns, rows = width - LABEL_WIDTH - 1, height - 2
    if columns < 8 or rows < 2:
        return Plot([])
    curves = [scaled(one.points, is_log=look.is_log) for one in series]
    edges = [scaled(edge, is_log=look.is_log) for edge in band] if band is not None else []
    view = bounds(curves, edges, zoom=look.zoom, is_log=look.is_log)
    if view is None:
        nothing = Text(f"{'':{LABEL_WIDTH}} nothing is evaluated yet"[:width], style="quiet")
        return Plot([Text("")] * (rows // 2) + [nothing])
    view, ticks = with_ticks(view, rows, is_log=look.is_log)
    canvas = Canvas(columns, rows, view, is_ascii=glyphs.is_ascii)
    placed = _placed(marks, view, canvas)
    if edges:
        canvas.fill(*edges)
    if len(placed) <= MOST_RULES:
        for column in placed:
            canvas.rule(column, "band")
    drawn = list(zip(series, curves, strict=True))
    for one, points in reversed(drawn):
        canvas.line(points, one.style, one.marker, one.letter)
    named = [(one, points) for one, points in drawn if one.letter]
    for place, (one, points) in enumerate(named):
        canvas.name(points, one.style, one.letter, place, len(named))
    labels = _rows_of(ticks, view, rows)
    lines = [
        Text(f"{labels.get(row, ''):>{LABEL_WIDTH}}", style="quiet")
        .append_text(_wall(row in labels, glyphs))
        .append_text(text)
        for row, text in enumerate(canvas.texts())
    ]
    return Plot([*lines, *_axis(view, canvas, look.x_kind, placed, glyphs)], canvas, view, columns)


def _wall(is_labelled: bool, glyphs: Glyphs) -> Text:
    signs = ("|", "+") if glyphs.is_ascii else ("│", "┤")
    return Text(signs[is_labelled], style="quiet")


def _rows_of(ticks: Iterable[Tick], view: View, rows: int) -> dict[int, str]:
    """Return the labels left of the rows, by row."""
    height = view.y_high - view.y_low
    return {round((view.y_high - tick.value) / height * (rows - 1)): tick.label for tick in ticks}


_RANKS: dict[MarkKind, int] = {kind: rank for rank, kind in enumerate(MARKS)}


def _placed(marks: Iterable[ChartMark], view: View, canvas: Canvas) -> dict[int, MarkKind]:
    """Return the marks by their column; what happened after the last value is at the right end."""
    placed: dict[int, MarkKind] = {}
    for x, kind, _ in marks:
        if x >= view.x_low:
            column = canvas.column_of(min(x, view.x_high))
            if column not in placed or _RANKS[kind] < _RANKS[placed[column]]:
                placed[column] = kind
    return placed


def _axis(
    view: View, canvas: Canvas, kind: XKind, placed: dict[int, MarkKind], glyphs: Glyphs
) -> tuple[Text, Text]:
    """Return the axis with its marks, and the labels below it, none over another."""
    columns = canvas.columns
    corner, dash, stem = ("+", "-", "+") if glyphs.is_ascii else ("└", "─", "┬")
    line, signs = [" "] * columns, [dash] * columns
    ticks = x_ticks(view, columns, kind)
    reserved = columns - len(ticks[-1].label) - 1
    end, previous = 0, ""
    for place, (value, label) in enumerate(ticks):
        column = min(columns - 1, max(0, canvas.column_of(value)))
        at = min(max(0, column - len(label) // 2), columns - len(label))
        is_last = place == len(ticks) - 1
        if label == previous or at < end or (not is_last and at + len(label) > reserved):
            continue
        line[at : at + len(label)] = label
        signs[column] = stem
        end, previous = at + len(label) + 1, label
    axis = Text(" " * LABEL_WIDTH + corner, style="quiet")
    for column, sign in enumerate(signs):
        if column in placed:
            symbol = MARKS[placed[column]]
            axis.append(symbol.ascii if glyphs.is_ascii else symbol.mark, style=symbol.style_name)
        else:
            axis.append(sign, style="quiet")
    return axis, Text(" " * (LABEL_WIDTH + 1) + "".join(line).rstrip(), style="quiet")
