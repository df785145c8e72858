"""A Textual driver for benches that counts and discards the output of an app.

Also a program: `python -m tests.bench.screen_terminal RECORDING` shows a recording once and prints the time
since process start and the memory. Without RECORDING it shows a few panels of Textual, for a comparison.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
from textual.drivers.headless_driver import HeadlessDriver

from p2pfl.collector import uncollected

if TYPE_CHECKING:
    from textual.app import App

SIZE = (200, 50)
"""Columns and lines of a large terminal."""


class Terminal(HeadlessDriver):
    """Discards the output. Not headless for the app, which would not render its output otherwise."""

    written = 0
    """Characters written by all instances."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        type(self).written += len(data)


class Painted(msgspec.Struct, frozen=True):
    """The first paint of a recording."""

    seconds: float
    """Since process start."""
    megabytes: float
    """Resident memory."""
    foreign: tuple[str, ...]
    """Imported modules that this process must not import."""


PANELS = 8
"""Of the app for a comparison, as the overview has."""


def main() -> None:
    """Show the recording given on the command line, or a few panels; print the figures as JSON."""
    with uncollected():  # as the program itself imports them
        app = _empty() if len(sys.argv) < 2 else _replay(Path(sys.argv[1]))
    app.driver_class = Terminal
    found: list[float] = []

    async def run() -> None:
        await app.run_async(size=SIZE)
        found.append(time.time())

    import asyncio

    asyncio.run(run())
    process = psutil.Process()
    painted = Painted(
        found[0] - process.create_time(),
        process.memory_info().rss / 1e6,
        tuple(name for name in ("torch", "numpy") if name in sys.modules),
    )
    sys.stdout.write(msgspec.json.encode(painted).decode())


def _replay(path: Path) -> App[Any]:
    """Return the terminal UI with a recording; it ends after its first paint."""
    from tui.app import Tui
    from tui.source import Replay

    class Once(Tui):
        def on_ready(self) -> None:
            self.call_after_refresh(self.exit)

    return Once(Replay(path))


def _empty() -> App[Any]:
    """Return an app that is nothing but some panels with a border; it ends after its first paint."""
    from textual.app import App
    from textual.widgets import Static

    class Empty(App[Any]):
        CSS = "Static { border: round blue; height: 1fr; }"

        def compose(self) -> Iterator[Static]:
            for _ in range(PANELS):
                yield Static("a line of text")

        def on_ready(self) -> None:
            self.call_after_refresh(self.exit)

    return Empty()


if __name__ == "__main__":
    main()
