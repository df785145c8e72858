"""A Textual driver for benches that counts and discards the output of an app.

Also a program: `python -m tests.bench.screen_terminal RECORDING` shows a recording once and prints the time
since process start and the memory.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import psutil
from textual.drivers.headless_driver import HeadlessDriver

from p2pfl.collector import uncollected

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


def main() -> None:
    """Show the recording given on the command line; print the figures as JSON."""
    with uncollected():  # as the program itself imports them
        from tui.app import Tui
        from tui.source import Replay

    class Once(Tui):
        def on_ready(self) -> None:
            self.call_after_refresh(self.exit)

    app = Once(Replay(Path(sys.argv[1])))
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


if __name__ == "__main__":
    main()
