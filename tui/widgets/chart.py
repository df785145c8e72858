"""A chart widget: draws with `plot`, and adds a legend, zoom, a cursor and series that can be hidden."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.events import Click, Leave, MouseMove
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.symbols import MARKS, Glyphs, ago, glyphs
from tui.theme import palette_of
from tui.widgets.canvas import ASCII_SHADE, LETTERS, Marker
from tui.widgets.legend import Entry, draw_legend
from tui.widgets.paint import set_subtitle, set_title, strip_of
from tui.widgets.plot import (
    ChartLook,
    ChartValues,
    Plot,
    draw_plot,
    is_log_by_default,
)
from tui.widgets.scale import is_drawn, number

MOST_ZOOM = 64.0

BAND = "members"
"""Name of the band in the legend and among the series that can be hidden."""

MOST_TOLD = 3
"""Marks at the cursor that are told in words."""

_SYMBOLS: dict[Marker, str] = {
    "line": "━",
    "dashed": "╌",
    "dotted": "┈",
    "long": "╍",
    "short": "┅",
    "pairs": "∶",
    "dashdot": "┄",
    "sparse": "·",
}
"""Symbol of each line style in the legend."""


class Chart(Widget, can_focus=True):
    """A chart that is drawn only when its values, its size or its colours change."""

    BINDINGS: ClassVar = [
        ("plus,equals_sign", "zoom(2.0)", "Zoom in"),
        ("minus", "zoom(0.5)", "Zoom out"),
        ("left", "cursor(-1)", "The value before; shift: ten"),
        ("right", "cursor(1)", "The next value; shift: ten"),
        Binding("shift+left", "cursor(-10)", show=False),
        Binding("shift+right", "cursor(10)", show=False),
        ("h", "hide", "Hide the next series"),
    ]

    glyphs: reactive[Glyphs] = reactive(glyphs(ascii_only=False))
    """The symbols to draw with."""

    class Pointed(Message):
        """The cursor moved; other charts of the screen can follow."""

        def __init__(self, chart: Chart, x: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._values = ChartValues()
        self._zoom = 1.0
        self._scale: bool | None = None
        """Whether the user wants a logarithmic scale; None for the default."""
        self._cursor: float | None = None
        """The x value whose values are shown; None for the last ones."""
        self._is_pinned = False
        """Whether the cursor stays when the pointer leaves."""
        self._hidden: set[str] = set()
        self._plot: Plot | None = None
        """What is drawn without the cursor; None if it must be drawn again."""
        self._lines: list[Text] | None = None
        """The drawn lines; None if they must be put together again."""

    # --- what it shows ----------------------------------------------------------------------

    def show_values(self, given: ChartValues) -> None:
        """Show *given*; unchanged values cost nothing."""
        before = self._values
        if given is before or given == before:
            return
        if given.x_kind != before.x_kind:
            self._cursor, self._is_pinned = None, False
        if given.title != before.title:
            self._scale = None
        self._values = given
        self._redraw()

    def watch_glyphs(self) -> None:
        """Draw with other symbols."""
        self._plot = self._lines = None

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._plot = self._lines = None

    def _redraw(self) -> None:
        self._plot = None
        parts = [f"{self._values.title}{' over time' if self._values.x_kind == 'time' else ''}"]
        if self.is_log:
            parts.append("log")
        if self._zoom > 1:
            parts.append(f"last 1/{self._zoom:.0f}")
        set_title(self, " · ".join(parts))
        self._rewrite()

    def _rewrite(self) -> None:
        """Put the lines together again: the values at the cursor are other ones."""
        self._lines = None
        set_subtitle(self, self._told() if self._cursor is not None else self._values.note)
        self.refresh()

    @property
    def is_log(self) -> bool:
        """Whether the vertical scale is logarithmic."""
        if self._scale is not None:
            return self._scale
        return self._values.is_loss and is_log_by_default(self._values.series)

    @property
    def shows_loss(self) -> bool:
        """Whether less is better."""
        return self._values.is_loss

    @property
    def is_pinned(self) -> bool:
        """Whether the cursor stays when the pointer leaves."""
        return self._is_pinned

    def _look(self) -> ChartLook:
        return ChartLook(self._values.x_kind, self._zoom, self.is_log)

    # --- drawing ----------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Return one line of the content."""
        if self._lines is None:
            self._lines = self._draw()
        width, base = self.size.width, self.visual_style.rich_style
        if y >= len(self._lines):
            return Strip.blank(width, base)
        return strip_of(self._lines[y], width, base, self.app.console, palette_of(self.app.current_theme))

    def _draw(self) -> list[Text]:
        width, height = self.size
        legend = draw_legend(self._entries(), max(1, width), height)
        shown = [one for one in self._values.series if one.name not in self._hidden]
        if self._plot is None:
            band = self._values.band if BAND not in self._hidden else None
            room = height - max(1, len(legend))
            self._plot = draw_plot(shown, band, width, room, self.glyphs, self._look(), self._values.marks)
        lines = self._plot.lines
        if self._cursor is not None:
            lines = self._plot.with_cursor(self._cursor, shown, self._look(), self.glyphs)
        return [*(legend or [Text("")]), *lines]

    def _entries(self) -> list[Entry]:
        """Return the legend: the series with their last values or those at the cursor, and the marks."""
        is_ascii = self.glyphs.is_ascii
        entries = []
        for one in self._values.series:
            at = None if one.is_level else self._cursor
            last = (y for x, y in reversed(one.points) if y is not None and is_drawn(y) and at in (None, x))
            sign = LETTERS[one.marker] if is_ascii else _SYMBOLS[one.marker]
            sign = one.letter + ("" if is_ascii else sign) if one.letter else sign
            value = next(map(number, last), "")
            entries.append(Entry(sign, one.name, one.style, value, one.name in self._hidden))
        if self._values.band is not None:
            shade = ASCII_SHADE if is_ascii else self.glyphs.aggregate
            entries.append(Entry(shade, BAND, "quiet", None, BAND in self._hidden))
        kinds = {mark.kind for mark in self._values.marks}
        for kind, symbol in MARKS.items():
            if kind in kinds:
                word = symbol.short or symbol.text
                mark = symbol.ascii if is_ascii else symbol.mark
                entries.append(Entry(mark, word, symbol.style_name, is_optional=True))
        return entries

    def _told(self) -> str:
        """Return the place of the cursor, and what happened there."""
        x, values = self._cursor, self._values
        assert x is not None
        place = f"round {x:.0f}" if values.x_kind == "round" else f"after {ago(x)}"
        before = max((other for other in self._places() if other < x), default=-1.0)
        here = [mark for mark in values.marks if before < mark.x <= x]
        for mark in here[:MOST_TOLD]:
            symbol = MARKS[mark.kind]
            place += f" · {symbol.ascii if self.glyphs.is_ascii else symbol.mark} {mark.text}"
        return place + (f" and {len(here) - MOST_TOLD} more" if len(here) > MOST_TOLD else "")

    # --- keys and pointer ----------------------------------------------------------------------

    def _places(self) -> list[float]:
        """Return the x values that the cursor can be at."""
        return sorted({x for one in self._values.series if not one.is_level for x, _ in one.points})

    def point(self, x: float | None, *, is_pinned: bool = True) -> None:
        """Move the cursor to *x*, or remove it."""
        self._is_pinned = is_pinned and x is not None
        if x != self._cursor:
            self._cursor = x
            self._rewrite()

    def _move(self, x: float | None, *, is_pinned: bool = True) -> None:
        """Move the cursor for the user, and say so."""
        before = self._cursor, self._is_pinned
        self.point(x, is_pinned=is_pinned)
        if (self._cursor, self._is_pinned) != before:
            self.post_message(self.Pointed(self, x))

    def action_zoom(self, factor: float) -> None:
        """Show a shorter or longer part of the past."""
        self._zoom = min(MOST_ZOOM, max(1.0, self._zoom * factor))
        self._redraw()

    def action_scale(self) -> None:
        """Switch between a linear and a logarithmic scale."""
        self._scale = not self.is_log
        self._redraw()

    def action_cursor(self, step: int) -> None:
        """Move the cursor to another value; it disappears right of the last one."""
        places = self._places()
        here = len(places)
        if self._cursor is not None:
            here = next((place for place, x in enumerate(places) if x >= self._cursor), here)
        moved = max(0, here + step)
        self._move(places[moved] if moved < len(places) else None)

    def action_hide(self) -> None:
        """Hide one more series; after the last one show all."""
        names = [one.name for one in self._values.series] + ([BAND] if self._values.band is not None else [])
        left = [name for name in names if name not in self._hidden]
        if len(left) <= 1:
            self._hidden.clear()
        else:
            self._hidden.add(left[0])
        self._redraw()

    def _nearest(self, event: MouseMove | Click) -> float | None:
        """Return the x value nearest to the pointer."""
        offset = event.get_content_offset(self)
        x = self._plot.x_at(offset.x) if self._plot is not None and offset is not None else None
        return None if x is None else min(self._places(), key=lambda place: abs(place - x), default=None)

    def on_mouse_move(self, event: MouseMove) -> None:
        """Show the values under the pointer, unless a click or a key has fixed the cursor."""
        if not self._is_pinned:
            self._move(self._nearest(event), is_pinned=False)

    def on_leave(self, event: Leave) -> None:
        """Show the last values again."""
        if event.node is self and not self._is_pinned:
            self._move(None)

    def on_click(self, event: Click) -> None:
        """Fix the cursor at the value under the pointer, or free it."""
        x = self._nearest(event)
        self._move(None if self._is_pinned and x == self._cursor else x)
