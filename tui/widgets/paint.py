"""From names of meanings to colours, and from texts to the strips that Textual draws.

The views write "train" or "bad" where they mean a colour, since the theme may change meanwhile; here, at the
last moment, a text gets the colours of the theme.
"""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual.strip import Strip

from tui.theme import STYLES, colour

_REVERSED = Style(reverse=True)
_DIM = Style(dim=True)
_NONE = Style.null()


def painted(text: Text, *, is_dark: bool) -> Text:
    """Return *text* with colours in place of meanings."""
    made = text.copy()
    made.spans = [Span(span.start, span.end, _style(span.style, is_dark=is_dark)) for span in text.spans]
    made.style = _style(text.style, is_dark=is_dark)
    return made


def _style(style: str | Style, *, is_dark: bool) -> str | Style:
    return colour(style, is_dark=is_dark) if isinstance(style, str) and style in STYLES else style


def strip_of(
    text: Text,
    width: int,
    base: Style,
    console: Console,
    *,
    is_dark: bool,
    dim: bool = False,
    chosen: bool = False,
) -> Strip:
    """Return one line of *text*, exactly *width* cells wide, on the style *base* of its widget."""
    line = painted(text, is_dark=is_dark)
    line.end = ""
    own = console.get_style(line.style, default=_NONE)  # which rendering leaves out where there is no span
    style = base + own + (_DIM if dim else _NONE) + (_REVERSED if chosen else _NONE)
    segments = [
        Segment(segment.text, style + (segment.style or _NONE))
        for segment in line.render(console)
        if segment.text
    ]
    return Strip(segments).adjust_cell_length(width, style)
