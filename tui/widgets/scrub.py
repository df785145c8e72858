"""The scrub bar of a replay: one line with the position, the marks of events and the speed; a click seeks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from tui.symbols import MARKS, Glyphs, MarkKind, duration
from tui.theme import palette_of
from tui.widgets.paint import painted

LEAST_BAR = 8
"""Cells that the bar has at least; the words around it are left out first."""


_RANKS: dict[MarkKind, int] = {kind: rank for rank, kind in enumerate(MARKS)}


class ScrubValues(NamedTuple):
    """What a scrub bar shows."""

    position: float
    """From 0 to 1."""
    seconds: float
    """The length of the recording."""
    speed: float
    is_held: bool
    marks: Sequence[tuple[float, MarkKind] | tuple[float, MarkKind, float]]
    """Positions and kinds of the marks; more is not looked at."""
    round: str = ""
    """The round at the position."""


class Bar(NamedTuple):
    """A scrub bar that is drawn."""

    text: Text
    first: int
    """The first cell of the bar itself."""
    cells: int

    def position_at(self, x: int) -> float | None:
        """Return the position at the cell *x* of the line; None beside the bar."""
        if not self.first <= x < self.first + self.cells:
            return None
        return (x - self.first) / (self.cells - 1) if self.cells > 1 else 0.0


def draw_scrub(values: ScrubValues, width: int, glyphs: Glyphs) -> Bar:
    """Return the line, *width* cells wide."""
    here, whole = duration(values.position * values.seconds), duration(values.seconds)
    state = "held" if values.is_held else f"x{values.speed:g}"
    left = (
        Text(" ").append(f"{state:<5}", style="warning" if values.is_held else "good").append(f" {here:>6} ")
    )
    right = Text(f" {whole} {values.round} ".rstrip() + " ", style="quiet")
    if width - left.cell_len - right.cell_len < LEAST_BAR:
        right = Text(" ")
    if width - left.cell_len - right.cell_len < LEAST_BAR:
        left = Text(" ")
    cells = max(1, width - left.cell_len - right.cell_len)
    at = _cell(values.position, cells)
    found: dict[int, MarkKind] = {}
    for position, kind, *_ in values.marks:
        cell = round(position * (cells - 1))
        if cell not in found or _RANKS[kind] < _RANKS[found[cell]]:
            found[cell] = kind
    line = left.copy()
    for cell in range(cells):
        if cell == at:
            line.append(glyphs.hollow if glyphs.is_ascii else glyphs.full, style="bold reverse")
        elif cell in found:
            symbol = MARKS[found[cell]]
            line.append(symbol.ascii if glyphs.is_ascii else symbol.mark, style=symbol.style_name)
        else:
            line.append(
                glyphs.link if cell < at else "-" if glyphs.is_ascii else "─", style=_style(cell < at)
            )
    line.append_text(right)
    line.truncate(max(1, width), overflow="crop")
    return Bar(line, left.cell_len, cells)


def _style(is_played: bool) -> str:
    return "train" if is_played else "quiet"


def _cell(position: float, cells: int) -> int:
    return round(min(1.0, max(0.0, position)) * (cells - 1))


class Scrub(Static):
    """The line above the keys; it posts `Sought` when somebody clicks into the bar."""

    class Sought(Message):
        """Somebody clicked at a position of the bar."""

        def __init__(self, position: float) -> None:
            super().__init__()
            self.position = position

    _bar: Bar | None = None
    _shown: Text | None = None

    def show(self, values: ScrubValues, glyphs: Glyphs) -> None:
        """Show *values*; an unchanged line costs nothing."""
        bar = draw_scrub(values, max(1, self.size.width), glyphs)
        text = painted(bar.text, palette_of(self.app.current_theme))
        if text != self._shown:
            self._shown = text
            self.update(text, layout=False)
        self._bar = bar

    def on_click(self, event: Click) -> None:
        """Report where the bar was clicked."""
        position = self._bar.position_at(event.x) if self._bar is not None else None
        if position is not None:
            self.post_message(self.Sought(position))
