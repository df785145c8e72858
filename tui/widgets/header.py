"""The header and the line of keys at the bottom; the least important parts are dropped to fit the width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from p2pfl.cards import metric_heading, metric_text
from tui.symbols import PROVISIONAL, Glyphs, ago, clip, delta
from tui.widgets.bars import progress

_PHASES = {
    "starting": ("◌", ".", "quiet"),
    "waiting": ("○", "o", "quiet"),
    "running": ("●", "*", "good"),
    "no quorum": ("‖", "=", "bad"),
    "paused": ("‖", "=", "warning"),
    "complete": ("✓", "+", "good"),
    "stopped": ("✓", "+", "warning"),
    "untrained": ("✗", "x", "bad"),
    "ended": ("✗", "x", "quiet"),
}
"""Symbol, ASCII symbol and style of each phase."""


ROUNDS_BAR = 16
"""Cells of the bar of rounds, where there is room for all else."""

NAME_WIDTH = 12
"""Most characters of a metric's name."""


class HeaderValues(NamedTuple):
    """The values of the header."""

    task: str
    node: str
    phase: str
    phase_kind: str
    trained: int
    rounds: int
    """Rounds that are expected; 0 if that is unknown."""
    value: float | None
    """The primary metric of the last evaluated round."""
    change: float | None
    reachable: int
    members: int
    remaining: float | None
    """Expected seconds until the run ends; None if unknown."""
    attached: str
    is_provisional: bool = False
    """Whether the metric is reported but not committed."""
    primary: str = "accuracy"
    """The metric's name."""
    is_rise_good: bool = True
    """Whether a larger value of it is better."""
    strategy: str = ""
    """The name of the strategy, if it is shown."""


def draw_header(values: HeaderValues, width: int, glyphs: Glyphs, *, problems: int = 0) -> Text:
    """Return the header: always the phase, then round and metric, then the rest as far as it fits."""
    mark, plain, style = _PHASES[values.phase_kind]
    phase = Text(plain if glyphs.is_ascii else mark, style=style).append(f" {values.phase}", style="bold")
    parts: list[tuple[int, Text]] = [(10, phase)]
    if values.rounds or values.members:
        of = f"/{values.rounds}" if values.rounds else ""
        parts.append((9, Text(f"r{values.trained}{of}")))
    if values.rounds:
        parts.append((0, progress(values.trained / values.rounds, ROUNDS_BAR, glyphs)))
    if values.value is not None:
        mark = PROVISIONAL if values.is_provisional else ""
        name = metric_heading(values.primary, NAME_WIDTH).lower()
        parts.append((8, Text(f"{name} {mark}{metric_text(values.value).removeprefix('0')}", style="bold")))
        if values.change is not None:
            gain = values.change if values.is_rise_good else -values.change
            style = "good" if gain > 0 else "warning" if gain < 0 else ""
            parts.append((5, Text(delta(values.change, glyphs), style=style)))
    if values.members:
        warning = "!" if values.reachable < values.members else ""
        peers = f"{values.reachable}/{values.members} members{warning}"
        parts.append((7, Text(peers, style="warning" if warning else "")))
    if problems:
        parts.append((6, Text(f"!{problems}", style="bad")))
    if values.remaining is not None:
        parts.append((4, Text(f"ETA {ago(values.remaining)}")))
    parts.insert(0, (3, Text(clip(values.task, 16), style="bold")))
    if values.strategy:
        parts.insert(1, (1, Text(clip(values.strategy, 24))))
    parts.append((2, Text(clip(values.attached, 30), style="quiet")))
    while len(parts) > 1 and sum(part.cell_len + 2 for _, part in parts) - 1 > width:
        parts.remove(min(parts, key=lambda part: part[0]))
    line = Text(" ")
    for index, (_, part) in enumerate(parts):
        line.append("  " if index else "").append_text(part)
    line.truncate(max(1, width), overflow="ellipsis")
    return line


def draw_keys(keys: Sequence[tuple[str, str]], width: int) -> Text:
    """Return the keys that fit: the first ones and the last three, at least the last one."""
    shown = list(keys)
    while len(shown) > 1 and sum(len(key) + len(label) + 3 for key, label in shown) - 1 > width:
        del shown[max(0, len(shown) - 4)]
    line = Text(" ")
    for key, label in shown:
        line.append(key, style="bold").append(f" {label}  ", style="quiet")
    line.truncate(max(1, width), overflow="crop")
    return line
