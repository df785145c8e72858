"""A chart as a panel: what `plot` draws, with a legend, zoom, a cursor and series that can be hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual.strip import Strip
from textual.widget import Widget

from tui.symbols import Glyphs, glyphs
from tui.widgets.paint import strip_of
from tui.widgets.plot import Band, Series, draw_chart

MOST_ZOOM = 64.0


class Chart(Widget, can_focus=True):
    """Drawn when its values, its size or its colours change, not with every tick."""

    BINDINGS: ClassVar = [
        ("plus,equals_sign", "zoom(2.0)", "Zoom in"),
        ("minus", "zoom(0.5)", "Zoom out"),
        ("left", "cursor(-1)", "A value before"),
        ("right", "cursor(1)", "The next value"),
        ("h", "hide", "Hide the next series"),
    ]

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.glyphs: Glyphs = glyphs(ascii_only=False)
        self._given: tuple[object, ...] = ()
        self._title = ""
        self._series: tuple[Series, ...] = ()
        self._band: Band | None = None
        self._x_kind: Literal["round", "time"] = "round"
        self._zoom = 1.0
        self._cursor: int | None = None
        self._hidden: set[str] = set()
        self._lines: list[Text] | None = None

    def show(
        self,
        title: str,
        series: Sequence[Series],
        band: Band | None,
        *,
        x_kind: Literal["round", "time"] = "round",
    ) -> None:
        """Show *series* and *band*; the same ones again cost nothing."""
        given = (title, tuple(series), band, x_kind, self.glyphs)
        if given == self._given:
            return
        self._given = given
        self._title, self._series, self._band, self._x_kind = title, tuple(series), band, x_kind
        self._again()

    def _again(self) -> None:
        self._lines = None
        over = " over time" if self._x_kind == "time" else ""
        zoomed = f" · last 1/{self._zoom:.0f}" if self._zoom > 1 else ""
        self.border_title = f"{self._title}{over}{zoomed}"
        self.refresh()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._lines = None

    def notify_style_update(self) -> None:
        """Draw with the new colours."""
        super().notify_style_update()
        self._lines = None

    def render_line(self, y: int) -> Strip:
        """Draw one line of the content."""
        if self._lines is None:
            self._lines = self._draw()
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        return strip_of(
            self._lines[y], width, self.rich_style, self.app.console, is_dark=self.app.current_theme.dark
        )

    def _draw(self) -> list[Text]:
        shown = [one for one in self._series if one.name not in self._hidden]
        width, height = self.size
        cursor = self._cursor_x()
        plot = draw_chart(
            shown,
            self._band if "members" not in self._hidden else None,
            width,
            height - 1,
            self.glyphs,
            x_kind=self._x_kind,
            zoom=self._zoom,
            cursor=cursor,
        )
        return [self._legend(cursor), *plot] if plot else [self._legend(cursor)]

    def _legend(self, cursor: float | None) -> Text:
        """Return the names with their last values, or those at the cursor."""
        line = Text(" ")
        signs = {"line": "━", "dashed": "╌", "dotted": "┈"}
        if self.glyphs.is_ascii:
            signs = {"line": "*", "dashed": "o", "dotted": "."}
        if cursor is not None:
            line.append(f"at {cursor:.0f}  ", style="bold")
        for one in self._series:
            if one.name in self._hidden:
                line.append(f"({one.name})  ", style="quiet")
                continue
            values = [(x, y) for x, y in one.points if y is not None]
            if cursor is not None:
                values = [(x, y) for x, y in values if x == cursor]
            value = f" {values[-1][1]:.3f}" if values else ""
            line.append(f"{signs[one.marker]} {one.name}{value}", style=one.style).append("  ")
        if self._band is not None:
            line.append(f"{signs['dotted']} min-max", style="quiet")
        return line

    def _cursor_x(self) -> float | None:
        points = self._series[0].points if self._series else ()
        return points[max(-len(points), self._cursor)][0] if points and self._cursor is not None else None

    def action_zoom(self, factor: float) -> None:
        """Show less, or more, of the past."""
        self._zoom = min(MOST_ZOOM, max(1.0, self._zoom * factor))
        self._again()

    def action_cursor(self, step: int) -> None:
        """Move the cursor; right of the last value there is none."""
        here = 0 if self._cursor is None else self._cursor
        moved = here + step
        self._cursor = moved if moved < 0 else None
        self._again()

    def action_hide(self) -> None:
        """Hide one series more; after the last one show all."""
        names = [one.name for one in self._series] + (["members"] if self._band is not None else [])
        open_ = [name for name in names if name not in self._hidden]
        if len(open_) <= 1:
            self._hidden.clear()
        else:
            self._hidden.add(open_[0])
        self._again()


__all__ = ["Band", "Chart", "Series"]
