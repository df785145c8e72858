"""The log as rows that can be searched and filtered: what `render` says, with whom and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p2pfl.events import Published
from p2pfl.observe.render import line_of

Level = Literal["info", "good", "warning", "error"]

_LEVELS: dict[str, Level] = {"!": "warning", "✗": "error", "✓": "good", "◎": "good", "★": "good"}
"""What the marks of `p2pfl.observe.render` mean."""


@dataclass(frozen=True)
class LogRow:
    """One line of the log."""

    seq: int
    time: float
    level: Level
    mark: str
    peer: str
    """The node it is about; empty for the run as a whole."""
    kind: str
    """The event's."""
    text: str


def row_of(item: Published) -> LogRow | None:
    """Return the row for *item*; None where it is not worth a line."""
    line = line_of(item.event, item.training_round)
    if line is None:
        return None
    mark, text = line
    peer = getattr(item.event, "name", "") or getattr(item.event, "aggregator", "")
    kind = type(item.event).__struct_config__.tag
    return LogRow(item.seq, item.time, _LEVELS.get(mark, "info"), mark, peer, str(kind), text)
