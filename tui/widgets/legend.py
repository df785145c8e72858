"""The legend of a chart: names, and values of a fixed width. It wraps and shortens, and is never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tui.symbols import clip, fit

VALUE_CELLS = 5
"""Cells of a value, so that nothing moves while the cursor does."""

LONGEST_NAME = 30

WHOLE_NAME = 7
"""Cells of names that are never shortened: "global", "members"."""

SHORT_NAMES = (12, 8, 6)
"""Cells of names that are shortened where there is no room."""

SHORTEST_NAME = 5
"""Cells of names where not even the values have room."""

SHARE = 3
"""Lines of a chart for each line of its legend."""

ROOMY = 10
"""Lines of a chart for each line of its legend that optional entries may open."""

GAP = "  "


class Entry(NamedTuple):
    """A curve, or what else needs an explanation."""

    sign: str
    name: str
    style: str
    value: str | None = None
    """Its value at the cursor, "" for none there; None if it has no values at all."""
    is_hidden: bool = False
    is_optional: bool = False
    """Whether it is left out where there is no room; the help explains it too. Such entries come last."""


def draw_legend(entries: Sequence[Entry], width: int, height: int) -> list[Text]:
    """Return all *entries* of a chart with *height* lines, in up to a third of them.

    The optional ones are there only where there is plenty of room. Where the others have none, their names
    are shortened, then only the first has a value; at last it says how many are left out.
    """
    most_lines = max(1, height // SHARE)
    needed = _shortened([entry for entry in entries if not entry.is_optional], LONGEST_NAME)
    first = [entry if place == 0 else entry._replace(value=None) for place, entry in enumerate(needed)]
    attempts = [needed, *(_shortened(needed, cells) for cells in SHORT_NAMES), first]
    attempts += [_shortened(first, cells) for cells in (*SHORT_NAMES, SHORTEST_NAME)]
    for attempt in attempts:
        lines = _flow([_written(entry) for entry in attempt], width)
        if _fits(lines, width, most_lines):
            return _with_optional(attempt, entries[len(needed) :], width, max(len(lines), height // ROOMY))
    return _as_many_as_fit([_written(entry) for entry in attempts[-1]], width, most_lines)


def _with_optional(
    needed: Sequence[Entry], optional: Sequence[Entry], width: int, most_lines: int
) -> list[Text]:
    """Return the lines of the entries, with as many optional ones as fit."""
    for count in range(len(optional), -1, -1):
        lines = _flow([_written(entry) for entry in (*needed, *optional[:count])], width)
        if _fits(lines, width, most_lines):
            break
    return lines


def _fits(lines: Sequence[Text], width: int, most_lines: int) -> bool:
    return len(lines) <= most_lines and all(line.cell_len <= width for line in lines)


def _shortened(entries: Sequence[Entry], cells: int) -> list[Entry]:
    return [
        entry if cell_len(entry.name) <= WHOLE_NAME else entry._replace(name=clip(entry.name, cells))
        for entry in entries
    ]


def _written(entry: Entry) -> Text:
    if entry.is_hidden:
        return Text(f"({entry.name})", style="quiet")
    value = "" if entry.value is None else f" {fit(entry.value, VALUE_CELLS)}"
    return Text(f"{entry.sign} {entry.name}{value}", style=entry.style)


def _flow(parts: Sequence[Text], width: int) -> list[Text]:
    """Put *parts* one after the other, each into a new line where the last one is full."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(GAP) + part.cell_len <= width:
            lines[-1].append(GAP).append_text(part)
        else:
            lines.append(Text(" ").append_text(part))
    for line in lines:
        line.rstrip()
    return lines


def _as_many_as_fit(parts: Sequence[Text], width: int, most_lines: int) -> list[Text]:
    for count in range(len(parts) - 1, -1, -1):
        lines = _flow([*parts[:count], Text(f"+{len(parts) - count}", style="quiet")], width)
        if _fits(lines, width, most_lines):
            return lines
    return []
