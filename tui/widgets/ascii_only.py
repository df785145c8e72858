"""ASCII for terminals and fonts that have nothing else.

Where a sign has a meaning, the views choose an ASCII one themselves (`tui.symbols`). Whatever else is drawn,
Textual's borders and scrollbars, punctuation, other devices' names, goes through here, last of all.
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
"""What stands for what; everything else for "?"."""


class AsciiOnly(LineFilter):
    """Leaves nothing but ASCII on the screen; the app gives it to Textual, see `App.get_line_filters`."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return *segments* with as many cells as before."""
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
    cells = cell_len(text)  # less than its parts take, where one changes the sign before it
    return made[:cells].ljust(cells)
