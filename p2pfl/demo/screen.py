"""The demo's output: lines as things happen and, on a terminal, a live line for each node below them."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from p2pfl.cards import metric_text
from p2pfl.demo.story import Line, Story
from p2pfl.report.terminal import PROVISIONAL
from p2pfl.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_CELLS = 20
"""Width of a progress bar: a row then fits 80 characters."""

MAX_HELD = 200
"""Lines kept while the terminal UI has the terminal."""

COLOURS = {"✓": "green", "★": "yellow", "◎": "cyan", "!": "yellow", "✗": "red", "-": "red"}


class Screen:
    """Prints the demo's lines and its live display."""

    def __init__(self, console: Console, *, is_live: bool) -> None:
        self._console = console
        self._is_live = is_live and console.is_terminal
        self._live: Live | None = None
        self._held: deque[tuple[Line, float]] | None = None
        """Lines kept for later while the terminal UI has the terminal; None otherwise."""

    def say(self, line: Line, at: float | None = None) -> None:
        """Print a line with the time *at* (seconds since the epoch; None: now)."""
        if self._held is not None:
            self._held.append((line, time.time() if at is None else at))
            return
        mark, text = line
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        styled = Text.assemble(
            (clock, "dim"), " ", (mark, COLOURS.get(mark, "dim")), " ", one_line(text), overflow="fold"
        )
        self._console.print(styled, soft_wrap=not self._console.is_terminal)

    def print(self, what: RenderableType = "") -> None:
        """Print *what* without a time."""
        self._console.print(what)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Keep a live display below the lines for `show`; without a terminal there is none."""
        if not self._is_live:
            yield
            return
        # Drawn with every look at the nodes, so that rich needs no thread of its own.
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            try:
                yield
            finally:
                self._live.update("", refresh=True)
        self._live = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Leave the terminal to the terminal UI meanwhile; the last lines are printed afterwards."""
        self._held = deque(maxlen=MAX_HELD)
        try:
            yield
        finally:
            held, self._held = self._held, None
            for line, at in held:
                self.say(line, at)

    def show(self, what: RenderableType) -> None:
        """Replace the live display by *what*."""
        if self._live is not None:
            self._live.update(what, refresh=True)


def draw_story(story: Story) -> RenderableType:
    """Return a heading and a row for each node, at most 80 characters wide."""
    share = f"round {min(story.round + 1, story.rounds)} of {story.rounds}" if story.rounds else "no run yet"
    mark = PROVISIONAL if story.is_provisional else ""
    value = story.value
    result = f", {one_line(story.primary)} {mark}{metric_text(value)}" if value is not None else ""
    rows = Table.grid(padding=(0, 2))
    for _ in range(5):
        rows.add_column(no_wrap=True)
    for name, view in story.views.items():
        rows.add_row(
            Text("★" if view.is_aggregator else " ", style="yellow"),
            Text(one_line(name)[:12]),
            Text(view.shape, style="cyan"),
            Text(view.doing[:24]),
            bar(view.share) if view.share is not None else Text(""),
        )
    return Group(Text(""), Text(f"{share}{result}", style="bold"), rows)


def bar(share: float) -> Text:
    """Return a progress bar for *share* of 1."""
    filled = int(share * BAR_CELLS)
    return Text.assemble(
        ("█" * filled, "green"), ("░" * (BAR_CELLS - filled), "dim"), f" {share:4.0%}", no_wrap=True
    )


def draw_local_only(name: str, share: float) -> RenderableType:
    """Return a line about the training of a model on the data of node *name* alone."""
    return Text.assemble(f"         {name} alone  ", bar(share))
