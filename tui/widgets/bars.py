"""Bars: the progress of a task, the distribution of data over labels, and the last values of a measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from p2pfl.cards import LabelCount
from tui.symbols import Glyphs, clip, fit, samples
from tui.widgets.canvas import DOTS

MAX_LABEL = 24
"""Cells of the name of a bar at most."""

HISTOGRAMS = 512
"""Histograms that are remembered: peers rarely change, but their charts are made anew after each round."""


def progress(part: float, width: int, glyphs: Glyphs, style: str = "train") -> Text:
    """Return a bar of *width* cells, filled to the share *part*."""
    full = round(min(1.0, max(0.0, part)) * width) if math.isfinite(part) else 0
    bar = Text()
    bar.append(glyphs.bar_full * full, style=style)
    bar.append(glyphs.bar_empty * (width - full), style="quiet")
    return bar


class LabelledBar(NamedTuple):
    """One bar of a panel."""

    label: str
    part: float
    """From 0 to 1; 1 fills the width."""
    value: str


def draw_bars(
    bars: Sequence[LabelledBar], width: int, height: int, glyphs: Glyphs, *, rest: str
) -> list[Text]:
    """Return a line for each of *bars*, up to *height*; the last one says how many *rest* have no line."""
    shown = bars[: max(0, height)]
    longest = max((cell_len(clip(bar.label, MAX_LABEL)) for bar in shown), default=0)
    label_cells = max(3, min(longest, width // 3))
    value_cells = max((len(bar.value) for bar in shown), default=0)
    room = max(1, width - label_cells - value_cells - 2)
    lines = []
    for bar in shown:
        align: Literal["left", "right"] = "right" if bar.label.isdecimal() else "left"
        line = Text(f"{fit(bar.label, label_cells, align)} ")
        filled = _bar(bar.part, room, glyphs)
        line.append(filled, style="train").append(glyphs.bar_empty * (room - len(filled)), style="quiet")
        line.append(f" {bar.value:>{value_cells}}")
        lines.append(line)
    if len(bars) > height and lines:
        lines[-1] = Text(f"  {glyphs.more} {len(bars) - height + 1} more {rest}", style="quiet")
    for line in lines:
        line.truncate(max(0, width), overflow="crop")
    return lines


def label_bars(labels: Sequence[LabelCount], width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """Return a bar for each label, up to *height* of them; the bar of the largest count fills the width."""
    most = max((one.examples for one in labels), default=0) or 1
    bars = [LabelledBar(one.label, one.examples / most, f"{samples(one.examples):>5}") for one in labels]
    return draw_bars(bars, width, height, glyphs, rest="labels")


def _bar(part: float, width: int, glyphs: Glyphs) -> str:
    """Return a bar with a resolution of an eighth of a cell, at most *width* cells."""
    steps = len(glyphs.eighths)
    filled = round(min(1.0, max(0.0, part)) * width * steps)
    if part > 0:
        filled = max(1, filled)  # a small count is not zero
    whole, rest = divmod(filled, steps)
    return glyphs.eighths[-1] * whole + (glyphs.eighths[rest - 1] if rest else "")


@lru_cache(HISTOGRAMS)
def histogram(counts: tuple[int, ...], width: int, glyphs: Glyphs) -> str:
    """Return *counts* as bars between zero and the largest, at most *width*: else neighbours share one."""
    if not counts or width <= 0:
        return ""
    share = -(-len(counts) // width)
    sums = [sum(counts[start : start + share]) for start in range(0, len(counts), share)]
    most = max(sums)
    top = len(glyphs.blocks) - 1
    return "".join(glyphs.blocks[math.ceil(one / most * top)] if one and most else " " for one in sums)


def trend(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """Return the last of *values* as a thin line between their least and largest; padded on the left."""
    if glyphs.is_ascii:
        return sparkline(values, width, glyphs)
    shown = [value for value in values[-2 * width :] if math.isfinite(value)]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    most = (len(DOTS) - 1) / (high - low) if high > low else 0.0
    rows = [len(DOTS) - 1 - round((value - low) * most) for value in shown]
    if len(rows) % 2:
        rows.insert(0, rows[0])
    cells = zip(rows[::2], rows[1::2], strict=True)
    return "".join(chr(0x2800 + (DOTS[left][0] | DOTS[right][1])) for left, right in cells).rjust(width)


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """Return the last *width* of *values* as bars between their least and largest; padded on the left."""
    shown = [value for value in values[-width:] if math.isfinite(value)]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    most = (len(glyphs.blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(glyphs.blocks[round((value - low) * most)] for value in shown).rjust(width)
