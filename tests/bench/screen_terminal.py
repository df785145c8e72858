"""A terminal for benches: takes what an app draws, as a real one would, and counts it.

Also a program: `python -m tests.bench.screen_terminal RECORDING` shows a recording once and says how long that
took since the process began, and how much memory it has.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import psutil
from textual.drivers.headless_driver import HeadlessDriver

SIZE = (200, 50)
"""Columns and lines, as many as a large screen has."""


class Terminal(HeadlessDriver):
    """Takes everything; an app that knows of no terminal would not even put its output together."""

    written = 0
    """Characters, of all there ever were."""

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        type(self).written += len(data)


class Painted(msgspec.Struct, frozen=True):
    """How a recording was first shown."""

    seconds: float
    """Since the process began."""
    megabytes: float
    """Resident."""
    foreign: tuple[str, ...]
    """Modules that have no business in this process."""


def main() -> None:
    """Show the recording that the command line names, and print what it took as JSON."""
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
