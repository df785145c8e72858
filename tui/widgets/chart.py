"""A chart widget: draws with `plot`, and adds a legend, zoom, a cursor and series that can be hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.symbols import Glyphs, ago, glyphs
from tui.theme import palette_of
from tui.widgets.paint import set_title, strip_of
from tui.widgets.plot import ASCII_SHADE, Band, Series, draw_chart, is_drawn, number

MOST_ZOOM = 64.0

BAND = "members"
"""Name of the band in the legend and among the series that can be hidden."""

_SYMBOLS = {"line": ("━", "*"), "dashed": ("╌", "o"), "dotted": ("┈", ".")}
"""Symbol of each line style in the legend, and its ASCII variant."""


class Chart(Widget, can_focus=True):
    """A chart that is drawn only when its values, its size or its colours change."""

    BINDINGS: ClassVar = [
        ("plus,equals_sign", "zoom(2.0)", "Zoom in"),
        ("minus", "zoom(0.5)", "Zoom out"),
        ("left", "cursor(-1)", "A value before"),
        ("right", "cursor(1)", "The next value"),
        ("h", "hide", "Hide the next series"),
    ]

    glyphs: reactive[Glyphs] = reactive(glyphs(ascii_only=False))
    """The symbols to draw with."""

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._title = ""
        self._series: tuple[Series, ...] = ()
        self._band: Band | None = None
        self._x_kind: Literal["round", "time"] = "round"
        self._zoom = 1.0
        self._cursor: float | None = None
        """The x value whose values are shown; None for the last ones."""
        self._hidden: set[str] = set()
        self._lines: list[Text] | None = None
        """The drawn lines; None if they must be drawn again."""

    def show(
        self,
        title: str,
        series: Sequence[Series],
        band: Band | None,
        *,
        x_kind: Literal["round", "time"] = "round",
    ) -> None:
        """Show *series* and *band*; unchanged values cost nothing."""
        given = (title, tuple(series), band, x_kind)
        if given == (self._title, self._series, self._band, self._x_kind):
            return
        if x_kind != self._x_kind:
            self._cursor = None
        self._title, self._series, self._band, self._x_kind = given
        self._redraw()

    def watch_glyphs(self) -> None:
        """Draw with other symbols."""
        self._lines = None

    def _redraw(self) -> None:
        self._lines = None
        over = " over time" if self._x_kind == "time" else ""
        zoomed = f" · last 1/{self._zoom:.0f}" if self._zoom > 1 else ""
        set_title(self, f"{self._title}{over}{zoomed}")
        self.refresh()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._lines = None

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
        shown = [one for one in self._series if one.name not in self._hidden]
        band = self._band if BAND not in self._hidden else None
        plot = draw_chart(
            shown, band, width, height - 1, self.glyphs,
            x_kind=self._x_kind, zoom=self._zoom, cursor=self._cursor,
        )  # fmt: skip
        return [self._legend(), *plot]

    def _legend(self) -> Text:
        """Return the names of the series with their last values, or with those at the cursor.

        In a narrow place there are fewer words, and the last names are left out.
        """
        width = max(1, self.size.width)
        for has_values, has_band in ((True, True), (True, False), (False, False)):
            line = self._named(has_values=has_values, has_band=has_band)
            if line.cell_len <= width:
                return line
        line.truncate(width, overflow="ellipsis")
        return line

    def _named(self, *, has_values: bool, has_band: bool) -> Text:
        line = Text(" ")
        if self._cursor is not None:
            place = f"{self._cursor:.0f}" if self._x_kind == "round" else ago(self._cursor)
            line.append(f"at {place}  ", style="bold")
        for index, one in enumerate(self._series):
            if one.name in self._hidden:
                line.append(f"({one.name})  ", style="quiet")
                continue
            last = self._last_of(one) if has_values or not index else None
            value = f" {number(last)}" if last is not None else ""
            line.append(f"{self._symbol(one.marker)} {one.name}{value}", style=one.style).append("  ")
        if self._band is not None and has_band:
            shade = ASCII_SHADE if self.glyphs.is_ascii else self.glyphs.aggregate
            line.append(f"({BAND})" if BAND in self._hidden else f"{shade} {BAND}", style="quiet")
        line.rstrip()
        return line

    def _last_of(self, one: Series) -> float | None:
        """Return the last value of a series, or the one at the cursor; None if it is missing."""
        return next(
            (
                y
                for x, y in reversed(one.points)
                if y is not None and is_drawn(y) and self._cursor in (None, x)
            ),
            None,
        )

    def _symbol(self, marker: Literal["line", "dashed", "dotted"]) -> str:
        return _SYMBOLS[marker][self.glyphs.is_ascii]

    def action_zoom(self, factor: float) -> None:
        """Show a shorter or longer part of the past."""
        self._zoom = min(MOST_ZOOM, max(1.0, self._zoom * factor))
        self._redraw()

    def action_cursor(self, step: int) -> None:
        """Move the cursor to another value; it disappears right of the last one."""
        places = sorted({x for one in self._series for x, _ in one.points})
        here = len(places)
        if self._cursor is not None:
            here = next((place for place, x in enumerate(places) if x >= self._cursor), here)
        moved = max(0, here + step)
        self._cursor = places[moved] if moved < len(places) else None
        self._redraw()

    def action_hide(self) -> None:
        """Hide one more series; after the last one show all."""
        names = [one.name for one in self._series] + ([BAND] if self._band is not None else [])
        left = [name for name in names if name not in self._hidden]
        if len(left) <= 1:
            self._hidden.clear()
        else:
            self._hidden.add(left[0])
        self._redraw()
