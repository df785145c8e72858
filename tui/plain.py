"""The terminal UI without a screen: prints one line per event, for pipes, logs and screen readers."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from p2pfl.observe.printer import EventPrinter, item_line
from p2pfl.streams import PIPE_EXIT, OutputLost
from tui.source import Live, Replay

EXIT_ERROR = 2
"""Exit code of an error that is explained in a sentence."""


def run_plain(source: Live | Replay) -> int:
    """Print the events of *source* until it ends, or Ctrl-C; return the exit code.

    Raises:
        NetworkError: the node does not answer.
    """
    try:
        if isinstance(source, Replay):
            for published in source.events:
                if (line := item_line(published)) is not None:
                    _print(line)
            if source.damaged:
                sys.stderr.write(f"{source.path}: {source.damaged} unreadable lines were left out\n")
        else:
            printer = EventPrinter(_print, _print, json=False)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(source.run(printer.deliver, printer.on_connection, _no_reset))
    except OutputLost as lost:
        if not lost.is_reader_gone:
            sys.stderr.write(f"p2pfl: standard output cannot be written to: {lost}\n")
            return EXIT_ERROR
        return PIPE_EXIT
    return 0


def _no_reset() -> None:
    """Do nothing: `EventPrinter` prints nothing twice."""


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
