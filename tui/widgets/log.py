"""A log view that follows the newest line, or stands still while the user reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.events import MouseScrollUp
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from p2pfl.observe.render import LogRow
from tui.theme import palette_of
from tui.widgets.paint import strip_of


class LogView(ScrollView, can_focus=True):
    """Draws only the visible lines."""

    DEFAULT_CSS = "LogView { overflow-x: hidden; }"
    BINDINGS: ClassVar = [
        ("up", "scroll(-1)", "Up"),
        ("down", "scroll(1)", "Down"),
        ("pageup", "scroll(-20)", "Up a page"),
        ("pagedown", "scroll(20)", "Down a page"),
        ("end", "follow", "Follow again"),
        ("home", "scroll(-1000000)", "First"),
    ]

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.follows = True
        """Whether the newest line stays visible."""
        self._rows: Sequence[LogRow] = ()
        self._draw: Callable[[LogRow, int], Text] = lambda row, width: Text(row.text[:width])

    def show(self, rows: Sequence[LogRow], draw: Callable[[LogRow, int], Text]) -> None:
        """Show *rows*, each drawn by *draw* for a width; unless it follows, the topmost row stays."""
        held = self.visible_rows()[:1]
        self._rows, self._draw = rows, draw
        self.virtual_size = Size(self.size.width, len(rows))
        if self.follows:
            self.scroll_end(animate=False, force=True, immediate=True)
        elif held:
            top = bisect_left(rows, held[0].seq, key=lambda row: row.seq)
            self.scroll_to(y=top, animate=False, force=True, immediate=True)
        self.refresh()

    def visible_rows(self) -> Sequence[LogRow]:
        """Return the visible rows."""
        top = self.scroll_offset.y
        return self._rows[top : top + self.size.height]

    def action_scroll(self, step: int) -> None:
        """Scroll by *step* lines and stop following."""
        self.follows = False
        self.scroll_to(y=max(0, self.scroll_offset.y + step), animate=False, force=True)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Stop following."""
        del event
        self.follows = False

    def action_follow(self) -> None:
        """Follow the newest line again."""
        self.follows = True
        self.scroll_end(animate=False, force=True, immediate=True)

    def render_line(self, y: int) -> Strip:
        """Return line *y* of the visible part."""
        width, place = self.scrollable_content_region.width, y + self.scroll_offset.y
        base = self.visual_style.rich_style
        if place >= len(self._rows):
            return Strip.blank(width, base)
        text = self._draw(self._rows[place], width)
        return strip_of(text, width, base, self.app.console, palette_of(self.app.current_theme))
