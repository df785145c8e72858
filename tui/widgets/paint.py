"""Applies the theme's colours to texts, and turns texts into the strips that Textual draws.

The views use names of meanings such as "train" or "bad" as styles, since the theme can change. They are
replaced by colours here, when a text is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Span, Text
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from tui.theme import STYLES, Palette

_NONE = Style.null()

INDENT = "  "
"""Before the continuation of a long line."""

LEAST_WRAPPED = 8
"""In narrower places nothing is continued."""


def painted(text: Text, palette: Palette) -> Text:
    """Return *text* with colours in place of the names of meanings."""
    made = text.copy()
    made.spans = [Span(span.start, span.end, _style(span.style, palette)) for span in text.spans]
    made.style = _style(text.style, palette)
    return made


@lru_cache
def rich_style(style: str | Style, palette: Palette) -> Style:
    """Return the colour of a meaning, or any other style, as a Rich style."""
    found = _style(style, palette)
    return Style.parse(found) if isinstance(found, str) else found


def _style(style: str | Style, palette: Palette) -> str | Style:
    return palette[style] if isinstance(style, str) and style in STYLES else style


def are_same(one: Text | None, other: Text | None) -> bool:
    """Return whether two lines look the same. Rich compares everything but the style of the whole."""
    return one == other and (one is None or other is None or one.style == other.style)


def fit_lines(lines: Sequence[Text], width: int, height: int) -> list[Text]:
    """Return *lines* with none wider than *width*, at most *height* of them.

    A longer line is continued on the next ones as long as there is room below all, and else cut between two
    words. Without a size (before the first layout) the lines stay as they are.
    """
    if width < LEAST_WRAPPED or height <= 0:
        return list(lines)
    spare = max(0, height - len(lines))
    fitted: list[Text] = []
    for line in lines:
        rest = line
        while rest.cell_len > width and spare:
            end = _last_break(rest, width)
            fitted.append(rest[:end])
            rest = Text(INDENT).append_text(_without_lead(rest[end:]))
            spare -= 1
        if rest.cell_len > width:
            rest = rest[: _last_break(rest, width - 1)].append("…")
        fitted.append(rest)
    return fitted


def _last_break(line: Text, width: int) -> int:
    """Return where to cut *line*: before the last blank within *width* cells, else at its last character."""
    end = cells = 0
    for character in line.plain:
        cells += cell_len(character)
        if cells > width:
            break
        end += 1
    blank = line.plain.rfind(" ", len(INDENT), end + 1)
    return blank if blank > end // 2 else max(1, end)


def _without_lead(line: Text) -> Text:
    blanks = len(line.plain) - len(line.plain.lstrip(" "))
    return line[blanks:]


def set_title(widget: Widget, title: str) -> None:
    """Set the title on a panel's border, without markup; an unchanged title draws nothing.

    Textual reads a string as markup, and redraws a widget with every title it is given.
    """
    if widget.border_title != Content(title).markup:
        widget.border_title = Text(title)


def set_subtitle(widget: Widget, subtitle: str) -> None:
    """Set what stands on a panel's lower border, as `set_title` does."""
    if widget.border_subtitle != Content(subtitle).markup:
        widget.border_subtitle = Text(subtitle)


def strip_of(text: Text, width: int, base: Style, console: Console, palette: Palette) -> Strip:
    """Return one line of *text*, exactly *width* cells wide, on the style *base* of its widget."""
    style = base + rich_style(text.style, palette)
    segments = _plain_segments(text, style, palette)
    if segments is None:
        line = painted(text, palette)
        line.end = ""
        segments = [
            Segment(segment.text, style + (segment.style or _NONE))
            for segment in line.render(console)
            if segment.text
        ]
    return Strip(segments, text.cell_len).adjust_cell_length(width, base)


def _plain_segments(text: Text, style: Style, palette: Palette) -> list[Segment] | None:
    """Return *text* as segments on *style*, faster than Rich; None if spans overlap."""
    plain = text.plain
    segments = []
    end = 0
    for start, stop, own in text.spans:
        if start < end or stop > len(plain):
            return None
        if start > end:
            segments.append(Segment(plain[end:start], style))
        if stop > start:
            segments.append(Segment(plain[start:stop], style + rich_style(own, palette)))
        end = stop
    if end < len(plain):
        segments.append(Segment(plain[end:], style))
    return segments
