"""The terminal UI without a screen: one line for each event."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from p2pfl.observe.follow import Connection
from p2pfl.observe.plain import connection_line, item_line
from tui.source import Item, Live, Replay


def run_plain(source: Live | Replay) -> int:
    """Print what *source* tells until it ends, or Ctrl-C; return the exit code."""
    if isinstance(source, Replay):
        for published in source.events:
            _print(item_line(published))
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_follow(source))
    return 0


async def _follow(source: Live) -> None:
    def deliver(item: Item) -> None:
        _print(item_line(item))

    def tell(connection: Connection) -> None:
        _print(connection_line(connection))

    await source.run(deliver, tell, lambda: None)


def _print(line: str | None) -> None:
    if line is not None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
