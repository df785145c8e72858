"""A table for values that change several times a second.

Textual's own table redraws every visible cell when one changes. This one compares each line with the line
drawn before and redraws only the lines that differ. Columns have fixed widths; in a narrow place the least
important ones are dropped. The cursor stays on its row while rows are sorted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.symbols import Glyphs, fit, glyphs
from tui.theme import palette_of
from tui.widgets.paint import rich_style

GAP = " "
"""Gap between two columns."""

_BOLD, _DIM, _REVERSED = Style(bold=True), Style(dim=True), Style(reverse=True)

_SELECTED = {True: Style(bgcolor="#2a3845", bold=True), False: Style(bgcolor="#dbe4ec", bold=True)}
"""The row with the cursor, on dark and on light: the colours of its states stay."""

FAR = 1_000_000
"""More rows than any table has."""


class Column(NamedTuple):
    """One column."""

    key: str
    title: str
    width: int
    priority: int
    """In a narrow place columns with the lowest priority are dropped first."""
    align: Literal["left", "right"] = "left"
    """Numbers are aligned right and sorted by value."""


class Row(NamedTuple):
    """One row."""

    key: str
    cells: Mapping[str, Text | str]
    """Cells by column key; a missing one is empty. A `Text` has a single style."""
    dim: bool = False


class LiveTable(ScrollView, can_focus=True):
    """Rows with a header, a cursor, a sort order and a filter."""

    DEFAULT_CSS = "LiveTable { overflow-x: hidden; }"
    BINDINGS: ClassVar = [
        ("up", "move(-1)", "Up"),
        ("down", "move(1)", "Down"),
        ("pageup", "move(-10)", "Up a page"),
        ("pagedown", "move(10)", "Down a page"),
        ("home", f"move({-FAR})", "First"),
        ("end", f"move({FAR})", "Last"),
        ("enter", "open", "Open"),
    ]

    glyphs: reactive[Glyphs] = reactive(glyphs(ascii_only=False))
    """The symbols to draw with."""

    class Opened(Message):
        """A row was opened."""

        def __init__(self, table: LiveTable, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> LiveTable:
            """The table."""
            return self.table

    class Moved(Message):
        """The cursor is on another row."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        searched: Sequence[str] = (),
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str = "",
    ) -> None:
        """Show no rows yet; a filter looks into the columns *searched*, which need not be visible."""
        super().__init__(id=id, classes=classes)
        self._searched = tuple(searched)
        self._columns = tuple(columns)
        self._given: list[Row] = []
        self._rows: list[Row] = []
        self._order = ""
        self._filter = ""
        self.cursor_key: str | None = None
        """The key of the row with the cursor."""
        self._strips: dict[str, tuple[object, Strip]] = {}
        self._shown: tuple[Column, ...] = self._columns
        self._drawn: list[tuple[object, ...]] = []

    # --- rows --------------------------------------------------------------------------------------

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns from now on; the same ones cost nothing."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self.on_resize()

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show *rows*, in this order unless they are sorted by a column."""
        self._given = list(rows)
        self._arrange()

    def sort_by(self, key: str) -> None:
        """Sort by the column *key*; "" keeps the order of `set_rows`."""
        self._order = key
        self._arrange()
        self._reveal()

    def filter(self, text: str) -> None:
        """Show only rows with *text* in a searched column; with "!" in front, those without it."""
        self._filter = text
        self._arrange()
        self._reveal()

    @property
    def keys(self) -> list[str]:
        """The keys of the shown rows, in order."""
        return [row.key for row in self._rows]

    def _arrange(self) -> None:
        """Filter and sort the rows, keep the cursor, and redraw the lines that changed."""
        rows = [row for row in self._given if self._passes(row)]
        column = next((one for one in self._columns if one.key == self._order), None)
        if column is not None:
            rank = by_value if column.align == "right" else by_word
            rows.sort(key=lambda row: rank(_plain(row.cells.get(column.key, ""))))
        place = self._place
        self._rows = rows
        keys = self.keys
        if self.cursor_key not in keys:
            self.cursor_key = keys[min(place, len(keys) - 1)] if keys else None
        self._strips = {key: self._strips[key] for key in keys if key in self._strips}
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        lines = [
            (row.key, row.key == self.cursor_key, row.dim, *map(_signature, row.cells.values()))
            for row in rows
        ]
        if len(lines) != len(self._drawn):
            self.refresh()
        else:
            width, height, top = *self.size, self.scroll_offset.y
            changed = [
                Region(0, y, width, 1)
                for y, (now, before) in enumerate(zip(lines, self._drawn, strict=True), start=1 - top)
                if now != before and 0 < y < height
            ]
            if changed:
                self.refresh(*changed)
        self._drawn = lines

    def _passes(self, row: Row) -> bool:
        text = self._filter.removeprefix("!").lower()
        if not text:
            return True
        found = any(text in _plain(row.cells.get(key, "")).lower() for key in self._searched)
        return found != self._filter.startswith("!")

    # --- drawing --------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Choose the columns that fit."""
        self._shown = self._fitting(self.scrollable_content_region.width)
        self._strips.clear()
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows) + 1)
        self.refresh()

    def _fitting(self, width: int) -> tuple[Column, ...]:
        shown = list(self._columns)
        while len(shown) > 1 and sum(column.width + len(GAP) for column in shown) + 1 > width:
            shown.remove(min(reversed(shown), key=lambda column: column.priority))
        return tuple(shown)

    def render_line(self, y: int) -> Strip:
        """Return line *y* of the visible part."""
        width = self.size.width
        base = self.visual_style.rich_style
        if y == 0:
            return Strip([Segment(self._header(), base + _BOLD)]).adjust_cell_length(width, base)
        place = y - 1 + self.scroll_offset.y
        if place >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[place]
        chosen = row.key == self.cursor_key
        signature = (
            width, self._shown, self.glyphs.is_ascii, chosen and self.has_focus, chosen, row.dim, base,
            *(_signature(row.cells.get(column.key, "")) for column in self._shown),
        )  # fmt: skip
        known = self._strips.get(row.key)
        if known is not None and known[0] == signature:
            return known[1]
        style = base + _DIM if row.dim else base
        if chosen and self.has_focus:
            style += (
                _REVERSED
                if self.app.no_color or self.app.current_theme.ansi
                else _SELECTED[self.app.current_theme.dark]
            )
        strip = Strip(self._segments(row, chosen, style)).adjust_cell_length(width, style)
        self._strips[row.key] = (signature, strip)
        return strip

    def _header(self) -> str:
        line = " "
        for column in self._shown:
            title = column.title if not self.glyphs.is_ascii or column.title.isascii() else self.glyphs.star
            if column.key == self._order:
                title = f"{title[: column.width - 1]}{self.glyphs.fall}"
            line += fit(title, column.width, column.align) + GAP
        return line

    def _segments(self, row: Row, chosen: bool, style: Style) -> list[Segment]:
        """Return a row's line, with one segment per style."""
        segments = []
        line = (">" if self.glyphs.is_ascii else "›") if chosen and self.can_focus else " "
        for column in self._shown:
            cell = row.cells.get(column.key, "")
            if isinstance(cell, Text):
                own = rich_style(cell.style, palette_of(self.app.current_theme))
                segments += [
                    Segment(line, style),
                    Segment(fit(cell.plain, column.width, column.align), style + own),
                ]
                line = GAP
            else:
                line += fit(cell, column.width, column.align) + GAP
        return [*segments, Segment(line, style)]

    # --- the cursor -----------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Show the cursor without focus."""
        self.refresh()

    def action_move(self, step: int) -> None:
        """Move the cursor by *step* rows."""
        if self._rows:
            self._point(min(len(self._rows) - 1, max(0, self._place + step)))

    @property
    def _place(self) -> int:
        """Position of the row with the cursor; 0 without one."""
        return next((place for place, row in enumerate(self._rows) if row.key == self.cursor_key), 0)

    def _point(self, place: int) -> None:
        self.cursor_key = self._rows[place].key
        self._reveal()
        self.refresh()
        self.post_message(self.Moved())

    def _reveal(self) -> None:
        """Scroll until the cursor is visible."""
        place, height, top = self._place, self.size.height - 1, self.scroll_offset.y
        if place < top:
            self.scroll_to(y=place, animate=False, force=True)
        elif place >= top + height:
            self.scroll_to(y=place - height + 1, animate=False, force=True)

    def action_open(self) -> None:
        """Open the row with the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.Opened(self, self.cursor_key))

    def on_click(self, event: Click) -> None:
        """Select a row; open it on a double click."""
        place = event.get_content_offset(self)
        if place is None or place.y == 0:
            return
        row = place.y - 1 + self.scroll_offset.y
        if row < len(self._rows):
            self._point(row)
            if event.chain >= 2:
                self.action_open()


def _plain(cell: Text | str) -> str:
    return cell.plain if isinstance(cell, Text) else cell


def _signature(cell: Text | str) -> object:
    return (cell.plain, cell.style) if isinstance(cell, Text) else cell


# --- sorting ------------------------------------------------------------------------------------------------
# Cells hold text such as "3.1M/s" or "1m40s": a number is parsed back out of what `tui.symbols` wrote.

_NUMBER = re.compile(
    r"(?P<sign>[▲▼+-]?)[<>]?(?P<value>\d*\.?\d+(?:e-?\d+)?)(?P<unit>ms|[A-Za-z]?)(?P<rest>\d{0,3})"
)

_UNITS = {
    "ms": 1e-3,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "k": 1e3,
    "K": 1024.0,
    "M": 1024.0**2,
    "G": 1024.0**3,
    "T": 1024.0**4,
}
"""Factor of each unit; 1 for seconds, bytes, percent and any other."""

_SMALLER = {"m": 1.0, "h": 60.0, "d": 3600.0}
"""Seconds per second number of a duration, by the unit of the first: "1m40s" is 1 m and 40 s."""


def by_value(text: str) -> tuple[int, float, str]:
    """Return the sort key of a cell with a number: the largest first, cells without a number last."""
    if text == "=":  # no change
        return 0, 0.0, ""
    found = _NUMBER.match(text.strip())
    if found is None:
        return 1, 0.0, text.casefold()
    unit = found["unit"]
    value = float(found["value"]) * _UNITS.get(unit, 1.0) + int(found["rest"] or 0) * _SMALLER.get(unit, 0.0)
    return 0, value if found["sign"] in ("▼", "-") else -value, ""


def by_word(text: str) -> tuple[int, float, str]:
    """Return the sort key of a cell with words: alphabetical."""
    return 0, 0.0, text.strip().casefold()
