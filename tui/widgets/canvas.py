"""A canvas of braille dots, or of letters in ASCII, on which a chart draws its curves.

A braille cell holds two by four dots, so 40 by 8 cells have 80 by 32 points. Curves differ by colour and by
dashes, and where there are many by a letter that stands on the curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


_Strip = tuple[int, int, int, int, int]
"""A curve in one column of dots: the column, and the rows of its first, top, lowest and last dot."""


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

    def _column(self, dot_x: int, rows: range, style: str, letter: str) -> None:
        """Set the dots of *rows*, none outside the canvas, in a column of dots."""
        if not 0 <= dot_x < 2 * self.columns:
            return
        column, side, is_ascii = dot_x // 2, dot_x % 2, self._is_ascii
        for dot_y in rows:
            row = dot_y // 4
            self._bits[row][column] |= DOTS[dot_y % 4][side]
            self._styles[row][column] = style
            if is_ascii:
                self._letters[row][column] = letter

    def rule(self, column: int, style: str) -> None:
        """Draw a thin line down the cells of *column*, of the signs in `RULE` where nothing else is."""
        self._column(2 * column, range(0, 4 * self._rows, 2), style, RULE[1])

    def fill(self, low: Points, high: Points) -> None:
        """Shade what is between two curves: every fourth dot."""
        left, dots_per_x = self._left, self._dots_per_x
        spans: dict[int, tuple[float, float]] = {}
        for (x, bottom), (_, top) in zip(low, high, strict=False):
            if bottom is None or top is None:
                continue
            at = round((x - left) * dots_per_x)
            before = spans.get(at)
            if before is None:
                spans[at] = bottom, top
            elif bottom < before[0] or top > before[1]:
                spans[at] = min(bottom, before[0]), max(top, before[1])
        edges = [(x, self._dot_y(top), self._dot_y(bottom)) for x, (bottom, top) in spans.items()]
        for (start, top, bottom), (end, next_top, next_bottom) in zip(
            edges, [*edges[1:], *edges[-1:]], strict=True
        ):
            for x in range(max(0, start), min(2 * self.columns, max(end, start + 1))):
                part = (x - start) / (end - start) if end > start else 0.0
                upper = round(top + part * (next_top - top))
                lower = round(bottom + part * (next_bottom - bottom))
                first = max(0, upper)
                first += (2 * (x % 2) - first) % 4
                self._column(x, range(first, min(4 * self._rows, lower + 1), 4), "band", ASCII_SHADE)

    def line(self, points: Points, style: str, marker: Marker, letter: str = "") -> None:
        """Draw a curve from value to value, with a gap at a missing one; in ASCII with its *letter*."""
        pen = _Pen(style, letter or LETTERS[marker], PATTERNS[marker])
        for part in self._strips(points):
            before: tuple[int, int] | None = None
            for x, first, top, bottom, last in part:
                if before is None:
                    self._set(x, first, style, pen.letter)
                elif x >= 0:
                    self._stroke(before, (x, first), pen)
                if top != bottom and pen.pattern[x % len(pen.pattern)] == "x":
                    rows = range(max(0, top), min(4 * self._rows, bottom + 1))
                    self._column(x, rows, style, pen.letter)
                before = x, last

    def _strips(self, points: Points) -> Iterator[list[_Strip]]:
        """Yield the unbroken parts of a curve, with the values of each column of dots put together."""
        left, dots_per_x = self._left, self._dots_per_x
        part: list[_Strip] = []
        at: int | None = None
        first = low = high = last = 0.0
        for x, y in points:
            if y is not None and (dot_x := round((x - left) * dots_per_x)) == at:
                last = y
                if y < low:
                    low = y
                elif y > high:
                    high = y
                continue
            if at is not None:
                part.append(self._strip(at, first, low, high, last))
            if y is None:
                if part:
                    yield part
                part, at = [], None
            else:
                at, first, low, high, last = dot_x, y, y, y, y
        if at is not None:
            yield [*part, self._strip(at, first, low, high, last)]

    def _strip(self, dot_x: int, first: float, low: float, high: float, last: float) -> _Strip:
        """Return values as rows of dots, which are counted from the top."""
        dot_y = self._dot_y
        top = dot_y(high)
        if low == high:
            return dot_x, top, top, top, top
        return dot_x, dot_y(first), top, dot_y(low), dot_y(last)

    def _stroke(self, start: tuple[int, int], end: tuple[int, int], pen: _Pen) -> None:
        """Draw from a dot, which is drawn already, to another one, without those that the pattern omits."""
        (x, y), across, down = start, end[0] - start[0], end[1] - start[1]
        steps = max(abs(across), abs(down))
        pattern, style, letter = pen.pattern, pen.style, pen.letter
        for step in range(1, steps + 1):
            dot_x = round(x + across * step / steps)
            if pattern[dot_x % len(pattern)] == "x":
                self._set(dot_x, round(y + down * step / steps), style, letter)

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
