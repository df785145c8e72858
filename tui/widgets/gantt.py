"""A Gantt chart of a round: one bar per peer on a common time axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tui.symbols import Glyphs, fit

NAME_WIDTH = 14
MOST_NAME = 24
NOTE_WIDTH = 12
MOST_NOTE = 40

WIDE = 90
"""Width from which names and notes may be longer."""

SHORTEST = 0.1
"""Minimum length of the axis, in seconds."""


class Span(NamedTuple):
    """A part of a peer's round."""

    kind: Literal["train", "transfer", "aggregate"]
    start: float
    """Seconds since the start of the round."""
    end: float


class GanttRow(NamedTuple):
    """The row of one peer."""

    name: str
    is_aggregator: bool
    spans: tuple[Span, ...]
    note: str
    """Text right of the bar, or in place of a missing bar."""


_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
"""Seconds between two labels of an axis."""

_STYLES = {"train": "train", "transfer": "move", "aggregate": "lead"}


def draw_gantt(rows: Sequence[GanttRow], total: float, width: int, glyphs: Glyphs) -> list[Text]:
    """Return the axis, a line for each row, and the legend; *total* seconds fill the width."""
    if width <= 0:
        return []
    name_width, note_width = NAME_WIDTH, NOTE_WIDTH
    if width >= WIDE:
        name_width = max(NAME_WIDTH, min(MOST_NAME, max((cell_len(row.name) for row in rows), default=0)))
        note_width = max(
            NOTE_WIDTH, min(MOST_NOTE, max((cell_len(row.note) for row in rows if row.spans), default=0))
        )
    room = max(10, width - name_width - note_width - 4)
    total = max(total, SHORTEST)
    lines = [_axis(total, room, name_width)]
    for row in rows:
        line = Text().append(glyphs.star if row.is_aggregator else " ", style="lead")
        line.append(f"{fit(row.name, name_width)} ")
        if row.spans:
            line.append_text(_bar(row.spans, total, room, glyphs))
            line.append(f"  {row.note}")
        else:
            line.append(f"{glyphs.broken} {row.note}", style="bad")
        lines.append(line)
    lines.append(Text(""))
    legend = Text(" ")
    for kind, sign in (
        ("train", glyphs.train),
        ("transfer", glyphs.transfer),
        ("aggregate", glyphs.aggregate),
    ):
        legend.append(sign, style=_STYLES[kind]).append(f" {kind}  ")
    legend.append(f"{glyphs.dot} idle", style="quiet")
    lines.append(legend)
    for line in lines:
        line.truncate(max(0, width), overflow="ellipsis")
    return lines


def _bar(spans: Sequence[Span], total: float, width: int, glyphs: Glyphs) -> Text:
    signs = {"train": glyphs.train, "transfer": glyphs.transfer, "aggregate": glyphs.aggregate}
    cells: list[str | None] = [None] * width
    for span in spans:
        first = min(width - 1, max(0, int(span.start / total * width)))
        last = min(width, max(first + 1, round(span.end / total * width)))
        cells[first:last] = [span.kind] * (last - first)
    bar = Text()
    for cell in cells:
        bar.append(signs[cell] if cell is not None else glyphs.dot, style=_STYLES[cell] if cell else "quiet")
    return bar


def _axis(total: float, width: int, name_width: int) -> Text:
    """Return the axis with labels at round numbers of seconds, none over another."""
    most = max(1, min(6, width // 8))
    step = next((s for s in _STEPS if total / s <= most), total)
    line = [" "] * (width + NOTE_WIDTH)
    for number in range(int(total / step + 1e-9) + 1):
        label = f"{number * step:.10g}" if number else "0s"
        at = round(number * step / total * width)
        line[at : at + len(label)] = label
    return Text(" " * (name_width + 2) + "".join(line).rstrip(), style="quiet")
