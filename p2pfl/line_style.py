"""How a line of output looks where it goes: on a terminal, in the journal of systemd, or in a file.

A terminal has the time of day and, for what matters, a colour. The journal knows the time of each line and
takes its priority as a number in front. Everywhere else a line has the date: it may be read next year.
"""

from __future__ import annotations

import os
import time
from enum import Enum
from typing import Any, NamedTuple

from p2pfl.systemd import is_journal

RESET = "\x1b[0m"


class _Look(NamedTuple):
    priority: int
    """As syslog and the journal number them."""
    colour: str
    """The escape sequence; empty: none."""


class Severity(Enum):
    """How much a line matters."""

    CRITICAL = _Look(2, "\x1b[31m")
    ERROR = _Look(3, "\x1b[31m")
    WARNING = _Look(4, "\x1b[33m")
    GOOD = _Look(6, "\x1b[32m")
    """A success that people look for, such as a commit."""
    INFO = _Look(6, "")
    DEBUG = _Look(7, "")


class LineStyle:
    """The looks of lines on one stream."""

    def __init__(self, stream: Any) -> None:
        """Find out what *stream* is; `NO_COLOR` and `FORCE_COLOR` decide about colours before that."""
        self._is_journal = is_journal(stream)
        self._is_terminal = stream.isatty()
        self._has_colours = not self._is_journal and wants_colours(stream)

    def line(self, text: str, severity: Severity = Severity.INFO, at: float | None = None) -> str:
        """Return *text*, a line or several, as it is written; *at* is its time, None for one without."""
        if self._is_journal:
            priority = f"<{severity.value.priority}>"
            return "\n".join(priority + line for line in text.splitlines())
        if self._has_colours and severity.value.colour:
            text = f"{severity.value.colour}{text}{RESET}"
        return text if at is None else f"{self._clock(at)} {text}"

    def _clock(self, at: float) -> str:
        layout = "%H:%M:%S" if self._is_terminal else "%Y-%m-%d %H:%M:%S"
        return time.strftime(layout, time.localtime(at))


def wants_colours(stream: Any) -> bool:
    """Return whether lines on *stream* have colours: on a terminal, unless its user wants none."""
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR", "")
    if forced:
        return forced != "0"
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
