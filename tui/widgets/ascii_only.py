"""Replaces all characters by ASCII, for terminals and fonts that have no others.

The views choose the ASCII variants of meaningful symbols themselves (`tui.symbols`). This filter replaces the
rest: Textual's borders and scrollbars, punctuation, other devices' names.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ASCII = {
    **dict.fromkeys("─━╌┈┄▁▔▂", "-"),
    **dict.fromkeys("│┃┆┤├▌▐▎▊▏▕", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘┏┓┗┛┬┴┼╋", "+"),
    **dict.fromkeys("█▓▄▀▆▇▅", "#"),
    **dict.fromkeys("▒", "="),
    **dict.fromkeys("░·—–", "-"),
    **dict.fromkeys("›▸→", ">"),
    **dict.fromkeys("←", "<"),
    **dict.fromkeys("↑▲", "^"),
    **dict.fromkeys("↓▼", "v"),
    **dict.fromkeys("…", "~"),
    **dict.fromkeys("●", "*"),
    **dict.fromkeys("○", "o"),
    **dict.fromkeys("✓", "+"),
    **dict.fromkeys("✗", "x"),
    **dict.fromkeys("⏎", "E"),
    "\N{NO-BREAK SPACE}": " ",
}
"""Replacements; any other character becomes "?"."""


class AsciiOnly(LineFilter):
    """A line filter that leaves only ASCII on the screen, see `App.get_line_filters`."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return *segments* in ASCII, with the same number of cells."""
        del background
        return [
            segment
            if segment.text.isascii()
            else Segment(ascii_of(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def ascii_of(text: str) -> str:
    """Return *text* in ASCII, of the same width."""
    made = "".join(sign if sign.isascii() else _ASCII.get(sign, "?" * cell_len(sign)) for sign in text)
    cells = cell_len(text)  # fewer than the sum of its parts if one combines with the one before
    return made[:cells].ljust(cells)
