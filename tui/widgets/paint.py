"""From names of meanings to colours, and from texts to the strips that Textual draws.

The views write "train" or "bad" where they mean a colour, since the theme may change meanwhile; here, at the
last moment, a text gets the colours of the theme.
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
    """Return *text* with colours in place of meanings."""
    made = text.copy()
    made.spans = [Span(span.start, span.end, _style(span.style, is_dark=is_dark)) for span in text.spans]
    made.style = _style(text.style, is_dark=is_dark)
    return made


@lru_cache
def rich_style(style: str | Style, *, is_dark: bool) -> Style:
    """Return the colour of a meaning, or any other style, as Rich has it."""
    found = _style(style, is_dark=is_dark)
    return Style.parse(found) if isinstance(found, str) else found


def _style(style: str | Style, *, is_dark: bool) -> str | Style:
    return colour(style, is_dark=is_dark) if isinstance(style, str) and style in STYLES else style


def set_title(widget: Widget, title: str) -> None:
    """Write *title* on the border of a panel as it is; to say the same again draws nothing.

    Textual takes a string for markup, and draws a widget anew with every title that it is given.
    """
    if widget.border_title != Content(title).markup:
        widget.border_title = Text(title)


def strip_of(text: Text, width: int, base: Style, console: Console, *, is_dark: bool) -> Strip:
    """Return one line of *text*, exactly *width* cells wide, on the style *base* of its widget."""
    line = painted(text, is_dark=is_dark)
    line.end = ""
    style = base + rich_style(text.style, is_dark=is_dark)  # which Rich leaves out where there is no span
    segments = [
        Segment(segment.text, style + (segment.style or _NONE))
        for segment in line.render(console)
        if segment.text
    ]
    return Strip(segments).adjust_cell_length(width, base)
