"""Applies the theme's colours to texts, and turns texts into the strips that Textual draws.

The views use names of meanings such as "train" or "bad" as styles, since the theme can change. They are
replaced by colours here, when a text is drawn.
"""

from __future__ import annotations

from functools import lru_cache

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from tui.theme import STYLES, colour

_NONE = Style.null()


def painted(text: Text, *, is_dark: bool) -> Text:
    """Return *text* with colours in place of the names of meanings."""
    made = text.copy()
    made.spans = [Span(span.start, span.end, _style(span.style, is_dark=is_dark)) for span in text.spans]
    made.style = _style(text.style, is_dark=is_dark)
    return made


@lru_cache
def rich_style(style: str | Style, *, is_dark: bool) -> Style:
    """Return the colour of a meaning, or any other style, as a Rich style."""
    found = _style(style, is_dark=is_dark)
    return Style.parse(found) if isinstance(found, str) else found


def _style(style: str | Style, *, is_dark: bool) -> str | Style:
    return colour(style, is_dark=is_dark) if isinstance(style, str) and style in STYLES else style


def set_title(widget: Widget, title: str) -> None:
    """Set the title on a panel's border, without markup; an unchanged title draws nothing.

    Textual reads a string as markup, and redraws a widget with every title it is given.
    """
    if widget.border_title != Content(title).markup:
        widget.border_title = Text(title)


def strip_of(text: Text, width: int, base: Style, console: Console, *, is_dark: bool) -> Strip:
    """Return one line of *text*, exactly *width* cells wide, on the style *base* of its widget."""
    line = painted(text, is_dark=is_dark)
    line.end = ""
    style = base + rich_style(text.style, is_dark=is_dark)  # Rich omits it without a span
    segments = [
        Segment(segment.text, style + (segment.style or _NONE))
        for segment in line.render(console)
        if segment.text
    ]
    return Strip(segments).adjust_cell_length(width, base)
