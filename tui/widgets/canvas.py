"""A canvas of braille dots, or of letters in ASCII, on which a chart draws its curves.

A braille cell holds two by four dots, so 40 by 8 cells have 80 by 32 points. Curves differ by colour and by
dashes, and where there are many by a letter that stands on the curve.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rich.text import Text

from tui.widgets.scale import Points, View

Marker = Literal["line", "dashed", "dotted", "long", "short", "pairs", "dashdot", "sparse"]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the braille patterns, by row and column of a cell."""

PATTERNS: dict[Marker, str] = {
    "line": "x",
    "dashed": "xxx   ",
    "dotted": "x   ",
    "long": "xxxxxxxx    ",
    "short": "xx  ",
    "pairs": "x x     ",
    "dashdot": "xxxxxx   x   ",
    "sparse": "x       ",
}
"""Which dots of a curve are drawn, repeated from left to right."""

LETTERS: dict[Marker, str] = {
    "line": "*",
    "dashed": "o",
    "dotted": ".",
    "long": "+",
    "short": "x",
    "pairs": "=",
    "dashdot": "%",
    "sparse": "&",
}
"""What a curve is drawn with in ASCII, if it has no letter of its own."""

ASCII_SHADE = ":"

RULE = "⠅'"
"""A cell with nothing but the line of a mark, and its ASCII variant."""

LETTER_CELLS = 16
"""Cells between two letters of the same curve."""


class _Pen(NamedTuple):
    """How a curve is drawn."""

    style: str
    letter: str
    pattern: str


class _Strip(NamedTuple):
    """The values of a curve in one column of dots, as rows of dots."""

    x: int
    first: int
    low: int
    high: int
    last: int


class Canvas:
    """Cells with dots, and whose they are; *view* and all that is drawn are on the same scale."""

    def __init__(self, columns: int, rows: int, view: View, *, is_ascii: bool) -> None:
        self.columns, self._rows, self._is_ascii = columns, rows, is_ascii
        self._left, self._top = view.x_low, view.y_high
        self._dots_per_x = (2 * columns - 1) / (view.x_high - view.x_low)
        self._far = 8 * rows
        self._dots_per_y = (4 * rows - 1) / (view.y_high - view.y_low)
        self._bits = [[0] * columns for _ in range(rows)]
        self._styles: list[list[str]] = [[""] * columns for _ in range(rows)]
        self._letters: list[list[str]] = [[""] * columns for _ in range(rows)]
        """What stands in a cell instead of its dots."""

    def _dot_x(self, x: float) -> int:
        return round((x - self._left) * self._dots_per_x)

    def _dot_y(self, y: float) -> int:
        """Return the dot row of *y*; of a value far outside, a row outside that is not as far."""
        dots = (self._top - y) * self._dots_per_y
        return round(dots) if -self._far < dots < self._far else self._far if dots > 0 else -self._far

    def column_of(self, x: float) -> int:
        """Return the column of cells of *x*."""
        return self._dot_x(x) // 2

    def cell_of(self, x: float, y: float) -> tuple[int, int] | None:
        """Return row and column of a value; None outside the canvas."""
        row, column = self._dot_y(y) // 4, self._dot_x(x) // 2
        return (row, column) if 0 <= row < self._rows and 0 <= column < self.columns else None

    def _set(self, dot_x: int, dot_y: int, style: str, letter: str) -> None:
        if 0 <= dot_x < 2 * self.columns and 0 <= dot_y < 4 * self._rows:
            row, column = dot_y // 4, dot_x // 2
            self._bits[row][column] |= DOTS[dot_y % 4][dot_x % 2]
            self._styles[row][column] = style
            if self._is_ascii:
                self._letters[row][column] = letter

    def rule(self, column: int, style: str) -> None:
        """Draw a thin line down the cells of *column*, of the signs in `RULE` where nothing else is."""
        for row in range(0, 4 * self._rows, 2):
            self._set(2 * column, row, style, RULE[1])

    def fill(self, low: Points, high: Points) -> None:
        """Shade what is between two curves: every fourth dot."""
        edges = [
            (self._dot_x(x), self._dot_y(top), self._dot_y(bottom))
            for (x, bottom), (_, top) in zip(low, high, strict=False)
            if bottom is not None and top is not None
        ]
        spans: dict[int, tuple[int, int]] = {}
        for (start, top, bottom), (end, next_top, next_bottom) in zip(
            edges, edges[1:] or edges, strict=False
        ):
            for x in range(max(0, start), min(2 * self.columns - 1, end) + 1):
                part = (x - start) / (end - start) if end > start else 0.0
                upper = round(top + part * (next_top - top))
                lower = round(bottom + part * (next_bottom - bottom))
                before = spans.get(x)
                spans[x] = (min(upper, before[0]), max(lower, before[1])) if before else (upper, lower)
        for x, (upper, lower) in spans.items():
            first = max(0, upper)
            first += (2 * (x % 2) - first) % 4
            for y in range(first, min(4 * self._rows - 1, lower) + 1, 4):
                self._set(x, y, "band", ASCII_SHADE)

    def line(self, points: Points, style: str, marker: Marker, letter: str = "") -> None:
        """Draw a curve from value to value, with a gap at a missing one; in ASCII with its *letter*."""
        pen = _Pen(style, letter or LETTERS[marker], PATTERNS[marker])
        for strip in self._strips(points):
            before: _Strip | None = None
            for here in strip:
                if before is None:
                    self._set(here.x, here.first, style, pen.letter)
                elif here.x >= 0:
                    self._stroke((before.x, before.last), (here.x, here.first), pen)
                if here.low != here.high:
                    self._stroke((here.x, here.low), (here.x, here.high), pen)
                before = here

    def _strips(self, points: Points) -> list[list[_Strip]]:
        """Return the unbroken parts of a curve, with the values of each column of dots put together."""
        parts: list[list[_Strip]] = [[]]
        for x, y in points:
            if y is None:
                if parts[-1]:
                    parts.append([])
                continue
            dot_x, dot_y, part = self._dot_x(x), self._dot_y(y), parts[-1]
            if part and part[-1].x == dot_x:
                last = part[-1]
                part[-1] = _Strip(dot_x, last.first, min(last.low, dot_y), max(last.high, dot_y), dot_y)
            else:
                part.append(_Strip(dot_x, dot_y, dot_y, dot_y, dot_y))
        return parts

    def _stroke(self, start: tuple[int, int], end: tuple[int, int], pen: _Pen) -> None:
        """Draw from dot to dot, without those that the pattern omits."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            dot_x = round(start[0] + (end[0] - start[0]) * step / steps)
            if pen.pattern[dot_x % len(pen.pattern)] == "x":
                dot_y = round(start[1] + (end[1] - start[1]) * step / steps)
                self._set(dot_x, dot_y, pen.style, pen.letter)

    def name(self, points: Points, style: str, letter: str, place: int, count: int) -> None:
        """Put *letter* onto a curve now and then, at other places than those of the other *count* curves."""
        taken = -1
        cells = [cell for x, y in points if y is not None and (cell := self.cell_of(x, y)) is not None]
        wanted = {
            min(cells, key=lambda cell: abs(cell[1] - column))
            for column in range(LETTER_CELLS * (2 * place + 1) // (2 * count), self.columns, LETTER_CELLS)
            if cells
        }
        for row, column in sorted(wanted, key=lambda cell: cell[1]):
            if column > taken:
                self._letters[row][column], self._styles[row][column] = letter, style
                self._bits[row][column] |= 1
                taken = column

    def texts(self) -> list[Text]:
        """Return the rows."""
        return [self._row(*row) for row in zip(self._bits, self._styles, self._letters, strict=True)]

    def _row(self, bits: Iterable[int], styles: Iterable[str], letters: Iterable[str]) -> Text:
        line = Text()
        run, current = "", ""  # cells of one style are one span: the fewer, the faster it is drawn
        for cell, style, letter in zip(bits, styles, letters, strict=True):
            if cell and style != current:
                line.append(run, style=current or None)
                run, current = "", style
            run += (letter or chr(0x2800 + cell)) if cell else " "
        line.append(run, style=current or None)
        return line
