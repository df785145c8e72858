"""The command line of the terminal UI, `python -m tui`; people start it with `p2pfl tui`.

Nothing heavy is imported before the options are read, and whatever happens the terminal is given back.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl import streams
from p2pfl.errors import P2pflError
from p2pfl.paths import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.source import Live, Replay

EXIT_ERROR = 2
"""An error that is explained in a sentence."""

EXIT_BUG = 70
"""An error nobody foresaw (EX_SOFTWARE in BSD's sysexits.h)."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="p2pfl tui", description="Watch a node, live or from a recording.")
    parser.add_argument("address", nargs="?", metavar="HOST:PORT", help="the node; none: this user's own")
    parser.add_argument("--data-dir", type=Path, help="the data directory of a node on this machine")
    parser.add_argument("--node", metavar="NAME", help="the name of this user's node on this machine")
    parser.add_argument("--certs", type=Path, help="the folder of a certificate of role observer or operator")
    parser.add_argument("--name", help="which certificate of --certs")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a file of events (`node --events`)")
    parser.add_argument("--speed", type=float, default=1.0, help="of the replay")
    parser.add_argument("--ascii", action="store_true", help="ASCII symbols only")
    parser.add_argument("--plain", action="store_true", help="plain lines, no screen")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--demo", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the terminal UI; return its exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        source = _source(options)
        if options.plain:
            from tui.plain import run_plain

            return run_plain(source)
        return _run(options, source)
    except P2pflError as error:
        sys.stderr.write(f"p2pfl: {error}\n")
        return EXIT_ERROR


def _source(options: argparse.Namespace) -> Live | Replay:
    from tui.source import Live, Replay

    if options.replay is not None:
        return Replay(options.replay, speed=options.speed)
    return Live(
        address=options.address,
        data_dir=options.data_dir,
        node=options.node,
        certs=options.certs,
        name=options.name,
        is_patient=not options.plain,
    )


def _run(options: argparse.Namespace, source: Live | Replay) -> int:
    # Nothing moves for its own sake, and Textual looks at this when it is imported.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from tui.app import Tui
    from tui.control import DemoControl
    from tui.symbols import SYMBOL_SAMPLE

    demo = DemoControl(options.demo) if options.demo is not None else None
    ascii_only = options.ascii or not streams.holds(sys.__stderr__, SYMBOL_SAMPLE)  # where Textual draws
    parent = os.getppid()
    app = Tui(
        source,
        ascii_only=ascii_only,
        light=options.theme == "light",
        demo=demo,
        is_abandoned=lambda: os.getppid() != parent,
    )
    # Who is told to end gives the terminal back first; the app looks up at each tick.
    for number in (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, lambda *_: app.exit())
    last = app.run()
    again = "p2pfl tui" + (f" --data-dir {quoted(options.data_dir)}" if options.data_dir else "")
    if app.fault is not None:
        from p2pfl.runtime.logs import keep_traceback

        sys.stderr.write(
            f"p2pfl: the screen failed ({type(app.fault).__name__}: {app.fault}). The node is still running; "
            f"attach again with `{again}`. That is a bug: please report it with "
            f"{keep_traceback(app.fault)}.\n"
        )
        return EXIT_BUG
    if last and options.replay is None and options.demo is None:
        sys.stdout.write(f"detached from {last}. The node goes on; attach again with `{again}`\n")
    return 0


if __name__ == "__main__":
    streams.mend()
    sys.exit(main())
