"""The symbols, words and number formats of the screens.

Each activity has a symbol, a word and a colour, and each of the three alone identifies it. Every symbol is
one cell wide and has an ASCII variant.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from p2pfl.cards import metric_cell
from p2pfl.observe.peers import ActivityKind
from p2pfl.text import one_line

UNKNOWN = "?"
"""Shown for a value that is not a finite number, which another device may send."""

MAX_TEXT = 400
"""Characters used of another device's text: more than any screen is wide."""

MOST_SECONDS = 9999 * 86_400.0
"""Longest age that is shown."""


class Symbol(NamedTuple):
    """How one activity is shown."""

    mark: str
    ascii: str
    text: str
    style_name: str
    """A style of the theme, see `tui.theme.STYLES`."""
    short: str = ""
    """Another word where there is little room, as in the legend of a chart."""


SYMBOLS: dict[ActivityKind, Symbol] = {
    "train": Symbol("●", "*", "train", "train"),
    "trained": Symbol("◉", "o", "trained", "train"),
    "sending": Symbol("↑", "^", "sending", "move"),
    "collect": Symbol("Σ", "S", "collect", "lead"),
    "average": Symbol("Σ", "S", "average", "lead"),
    "propose": Symbol("★", "@", "propose", "lead"),
    "elected": Symbol("★", "@", "elected", "lead"),
    "merged": Symbol("✓", "+", "merged", "good"),
    "done": Symbol("✓", "+", "complete", "good"),
    "waiting": Symbol("◌", ".", "waiting", "quiet"),
    "starting": Symbol("◌", ".", "starting", "quiet"),
    "learner": Symbol("◇", "~", "learner", "quiet"),
    "absent": Symbol("◌", "?", "not here", "quiet"),
    "late": Symbol("◍", "!", "late", "warning"),
    "paused": Symbol("‖", "=", "paused", "warning"),
    "leaving": Symbol("→", ">", "leaving", "warning"),
    "left": Symbol("→", ">", "left", "quiet"),
    "refused": Symbol("⊘", "%", "refused", "bad"),
    "lost": Symbol("✗", "x", "lost", "bad"),
    "kicked": Symbol("⊖", "-", "kicked", "warning"),
    "banned": Symbol("⊗", "#", "banned", "bad"),
    "revoked": Symbol("⊠", "$", "revoked", "bad"),
}
"""The symbol of each activity."""

MarkKind = Literal["loss", "pause", "join", "commit", "election", "resume"]
"""What a mark on a chart or on the scrub bar of a replay stands for."""

MARKS: dict[MarkKind, Symbol] = {
    "loss": Symbol("✗", "x", "lost, left or removed", "bad", "gone"),
    "pause": Symbol("‖", "=", "paused, or no quorum", "warning", "paused"),
    "join": Symbol("▲", "^", "joined or linked", "move", "joined"),
    "commit": Symbol("│", "|", "round committed", "good"),
    "election": Symbol("★", "@", "aggregator elected", "lead", "elected again"),
    "resume": Symbol("▸", ">", "goes on after a pause", "good", "goes on"),
}
"""The marks of charts and of the scrub bar, those first that hide others on the same cell."""

_LOG_ASCII = {"·": "-", "✓": "+", "◎": "o", "★": "@", "✗": "x"}
"""ASCII variants of the marks of the log."""


class Glyphs(NamedTuple):
    """Symbols other than those of activities, in one of two sets."""

    is_ascii: bool
    star: str
    check: str
    dot: str
    right: str
    up: str
    down: str
    more: str
    full: str
    empty: str
    bar_full: str
    bar_empty: str
    train: str
    transfer: str
    aggregate: str
    link: str
    broken: str
    packet: str
    """A model that moves on a link."""
    hollow: str
    """A node that is not here."""
    late: str
    rise: str
    fall: str
    eighths: str
    """From an eighth of a cell to a whole one; a single character in ASCII."""
    blocks: str
    """Bars of seven heights, the lowest first; none touches the line above."""

    def ascii_of(self, mark: str) -> str:
        """Return the ASCII variant of a mark of the log."""
        return _LOG_ASCII.get(mark, mark if mark.isascii() else "-")


_UNICODE = Glyphs(
    is_ascii=False,
    star="★",
    check="✓",
    dot="·",
    right="▸",
    up="↑",
    down="↓",
    more="…",
    full="●",
    empty="○",
    bar_full="▇",
    bar_empty="·",
    train="▓",
    transfer="▒",
    aggregate="░",
    link="━",
    broken="✗",
    packet="◆",
    hollow="○",
    late="◍",
    rise="▲",
    fall="▼",
    eighths="▏▎▍▌▋▊▉█",
    blocks="▁▂▃▄▅▆▇",
)

_ASCII = Glyphs(
    is_ascii=True,
    star="@",
    check="+",
    dot=".",
    right=">",
    up="^",
    down="v",
    more="~",
    full="*",
    empty="o",
    bar_full="#",
    bar_empty=".",
    train="#",
    transfer="=",
    aggregate="-",
    link="-",
    broken="x",
    packet="O",
    hollow="o",
    late="!",
    rise="+",
    fall="-",
    eighths="#",
    blocks="_.-=+*#",
)


SYMBOL_SAMPLE = "".join(part for part in _UNICODE if isinstance(part, str)) + "".join(
    symbol.mark for symbol in SYMBOLS.values()
)
"""All symbols; if the terminal's encoding lacks one of them, ASCII is drawn."""


def glyphs(ascii_only: bool) -> Glyphs:
    """Return the set of symbols to draw with."""
    return _ASCII if ascii_only else _UNICODE


def clip(text: str, width: int) -> str:
    """Return another device's *text* as one printable line, at most *width* cells wide."""
    if text.isascii() and text.isprintable() and len(text) <= width:
        return text
    clean = one_line(text, MAX_TEXT)
    if cell_len(clean) <= width:
        return clean
    return set_cell_size(clean, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def fit(text: str, width: int, align: Literal["left", "right"] = "left") -> str:
    """Return *text* clipped and padded to *width* cells; some characters take two cells."""
    cut = clip(text, width)
    gap = " " * (width - cell_len(cut))
    return gap + cut if align == "right" else cut + gap


def samples(count: float) -> str:
    """Return a count of samples in at most five characters."""
    return _scaled(count, ("", "k", "M", "G"), 1000.0)


def size(count: float) -> str:
    """Return a number of bytes in at most five characters."""
    return _scaled(count, ("B", "K", "M", "G", "T"), 1024.0)


def rate(per_second: float) -> str:
    """Return bytes a second in at most seven characters."""
    return f"{size(per_second)}/s"


def _scaled(value: float, units: tuple[str, ...], step: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    value = max(0.0, value)
    for unit in units:
        if value < 999.5:
            digits = 1 if unit not in ("", "B") and value < 99.5 else 0
            return f"{value:.{digits}f}{unit}"
        value /= step
    return f">999{units[-1]}"


def duration(seconds: float) -> str:
    """Return a length of time in at most six characters: <1ms, 2ms, 14.2s, 1m40s, 2h05m, 3d04h."""
    if not math.isfinite(seconds):
        return UNKNOWN
    seconds = max(0.0, seconds)
    if 0.0 < seconds < 0.0005:
        return "<1ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for parts, large, small in ((60, "m", "s"), (3600, "h", "m"), (86_400, "d", "h")):
        if whole < 100 * parts:
            rest = whole % parts // {"s": 1, "m": 60, "h": 3600}[small]
            return f"{whole // parts}{large}{rest:02d}{small}"
    return f"{min(whole // 86_400, 9999)}d"


def ago(seconds: float) -> str:
    """Return whole seconds, minutes, hours or days in at most five characters."""
    if not math.isfinite(seconds):
        return UNKNOWN
    seconds = min(max(0.0, seconds), MOST_SECONDS)
    for least, unit, per in ((172_800, "d", 86_400), (5_400, "h", 3_600), (99, "m", 60)):
        if seconds > least:
            return f"{seconds / per:.0f}{unit}"
    return f"{seconds:.0f}s"


def share(part: float) -> str:
    """Return a share as percent, from 0% to 100%."""
    return f"{100 * min(1.0, max(0.0, part)):.0f}%" if math.isfinite(part) else UNKNOWN


PROVISIONAL = "~"
"""In front of an accuracy that is reported but not committed: the committed one may differ."""


def score(value: float) -> str:
    """Return an accuracy, .961 or 1.00, in at most four characters."""
    if not math.isfinite(value):
        return UNKNOWN
    return "1.00" if value >= 0.9995 else f"{max(0.0, value):.3f}"[1:]


def metric(name: str, value: float) -> str:
    """Return *value* of the metric *name* in at most five characters; an accuracy as in `score`."""
    if not math.isfinite(value):
        return UNKNOWN
    return score(value) if name == "accuracy" else metric_cell(value, 5)


def delta(change: float, glyphs: Glyphs) -> str:
    """Return the change of a metric with its direction, in six characters or one."""
    if not math.isfinite(change):
        return UNKNOWN
    amount = abs(change)
    if amount < 0.00005:
        return "="
    text = f"{amount:.4f}".removeprefix("0") if amount < 0.99995 else metric_cell(amount, 5)
    return (glyphs.rise if change > 0 else glyphs.fall) + text
