"""The terminal UI without a screen: one line for each event, for pipes, logs and screen readers."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from p2pfl.observe.plain import item_line
from p2pfl.observe.telling import Telling
from p2pfl.streams import PIPE_EXIT, OutputLost
from tui.source import Live, Replay

EXIT_ERROR = 2
"""An error that is explained in a sentence."""


def run_plain(source: Live | Replay) -> int:
    """Print what *source* tells until it ends, or Ctrl-C; return the exit code.

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
            telling = Telling(_print, _print, json=False)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(source.run(telling.deliver, telling.tell, _forget_nothing))
    except OutputLost as lost:
        if not lost.is_reader_gone:
            sys.stderr.write(f"p2pfl: standard output cannot be written to: {lost}\n")
            return EXIT_ERROR
        return PIPE_EXIT
    return 0


def _forget_nothing() -> None:
    """Leave it to `Telling` that nothing is told twice."""


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
