"""Prints a node's events, one line each and, on a terminal, a live progress line below them."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from p2pfl import events
from p2pfl.events import Published
from p2pfl.line_style import LineStyle, Severity
from p2pfl.observe.render import line_of

BAR_CELLS = 20
"""Width of a progress bar."""

SEVERITIES = {"✗": Severity.ERROR, "!": Severity.WARNING, "✓": Severity.GOOD}
"""By the mark of a line; the others are for information."""

REDRAW_SECONDS = 0.1
"""Minimum interval between two updates of the live line: a transfer reports every chunk."""


class Console:
    """Prints events to a stream; only a terminal gets the live line."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._style = LineStyle(stream)
        self._is_live = stream.isatty() and not quiet
        self._shown = False
        self._drawn = 0.0

    def write(self, published: Published) -> None:
        """Print one event."""
        event = published.event
        if isinstance(event, events.ProgressMade):
            self._draw(event, published.training_round or event.round)
            return
        rendered = line_of(event, published.training_round)
        if rendered is None or (self._quiet and rendered[0] not in "✗!"):
            return
        mark, line = rendered
        severity = SEVERITIES.get(mark, Severity.INFO)
        self._print(self._style.line(f"{mark} {line}", severity, published.time))

    def show(self, text: str) -> None:
        """Print a line that is no event, such as one of the user's script, unless this is quiet."""
        if not self._quiet:
            self._print(self._style.line(text))

    def close(self) -> None:
        """Remove the live line."""
        self._erase()

    def _print(self, line: str) -> None:
        self._erase()
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def _draw(self, progress: events.ProgressMade, number: int) -> None:
        if not self._is_live:
            return
        now = time.monotonic()
        share = progress.done / max(1, progress.total)
        if share < 1 and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        filled = int(share * BAR_CELLS)
        what = f"round {number} training" if progress.what == "train" else "pulling a model"
        text = f"         {what} [{'█' * filled}{'·' * (BAR_CELLS - filled)}] {share:4.0%}"
        self._erase()
        self._stream.write(text[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
        self._shown = True

    def _erase(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._shown = False
