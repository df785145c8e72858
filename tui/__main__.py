"""The command line of the terminal UI, `python -m tui`; people start it with `p2pfl tui`.

Heavy imports come after the options are read. The terminal is restored whatever happens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfl import streams
from p2pfl.collector import uncollected
from p2pfl.errors import P2pflError, UserError
from p2pfl.events import Published
from p2pfl.exit_codes import ExitCode
from p2pfl.observe.printer import item_line
from p2pfl.paths import quoted
from tui.source import Live, Replay

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="p2pfl tui", description="Watch a node, live or from a recording.")
    parser.add_argument("address", nargs="?", metavar="HOST:PORT", help="the node; none: this user's own")
    parser.add_argument("--data-dir", type=Path, help="the data directory of a node on this machine")
    parser.add_argument("--node", metavar="NAME", help="the name of this user's node on this machine")
    parser.add_argument("--certs", type=Path, help="the folder of a certificate of role observer or operator")
    parser.add_argument("--name", help="which certificate of --certs")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a file of events (`node --events`)")
    parser.add_argument("--speed", type=float, help="of the replay")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="with --replay: write one frame")
    parser.add_argument("--animate", action="store_true", help="with --svg: all of it, moving")
    parser.add_argument("--cast", type=Path, metavar="FILE", help="with --replay: write it for asciinema")
    parser.add_argument("--at", metavar="SECONDS|rN", help="with --svg: which moment; none: the end")
    parser.add_argument("--size", metavar="COLUMNSxROWS", help="with --svg and --cast")
    parser.add_argument("--ascii", action="store_true", help="ASCII symbols only")
    parser.add_argument("--plain", action="store_true", help="with --replay: plain lines, no screen")
    parser.add_argument("--theme", metavar="NAME", help="colours; none: the theme chosen last, or dark")
    parser.add_argument("--notify", action="store_true", help="a desktop notification when the run is over")
    parser.add_argument("--serve", metavar="[HOST:]PORT", help="in a browser, at a link with a token")
    parser.add_argument("--no-files", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--demo", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.plain and options.replay is None:
        parser.error("--plain goes with --replay; `p2pfl watch` prints the events of a running node")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the terminal UI; return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parse(words)
    try:
        if options.serve is not None:
            return _serve(options.serve, words)
        source = _source(options)
        if isinstance(source, Replay) and (options.svg or options.cast):
            return _export(options, source)
        if isinstance(source, Replay) and options.plain:
            return _print(source)
        return _run(options, source)
    except P2pflError as error:
        sys.stderr.write(f"p2pfl: {error}\n")
        return ExitCode.UNFIT


def _source(options: argparse.Namespace) -> Live | Replay:
    if options.replay is not None:
        return Replay(options.replay, speed=options.speed if options.speed is not None else 1.0)
    return Live(
        address=options.address,
        data_dir=options.data_dir,
        node=options.node,
        certs=options.certs,
        name=options.name,
    )


def _serve(place: str, words: Sequence[str]) -> int:
    """Serve the terminal UI with the other *words* in browsers until it is interrupted."""
    from tui.serve import place_of, serve

    own = [word for word in words if not word.startswith("--serve=")]
    if len(own) == len(words):  # the option and its value are two words
        index = own.index("--serve")
        del own[index : index + 2]
    serve(place_of(place), own, _say)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _no_animations() -> None:
    """Switch off animations; Textual reads this when it is imported."""
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")


def _export(options: argparse.Namespace, replay: Replay) -> int:
    """Write a frame or all of *replay* to files."""
    _no_animations()
    from tui.frames import SIZE, Look, size_of, write_cast, write_film, write_svg
    from tui.theme import theme_name

    size = size_of(options.size) if options.size is not None else SIZE
    look = Look(size, theme_name(options.theme or "dark"), options.ascii)
    if options.svg is not None and options.animate:
        count = write_film(replay, options.svg, options.speed, look)
        sys.stdout.write(f"{options.svg} is written, {count} frames\n")
    elif options.svg is not None:
        write_svg(replay, options.svg, options.at, look)
        sys.stdout.write(f"{options.svg} is written\n")
    if options.cast is not None:
        count = write_cast(replay, options.cast, options.speed, look)
        sys.stdout.write(
            f"{options.cast} is written, {count} frames: asciinema play {quoted(options.cast)}\n"
        )
    return 0


def _print(replay: Replay) -> int:
    """Print a line for each event of *replay*, for pipes and screen readers."""
    try:
        for item in replay.items:
            if isinstance(item, Published) and (line := item_line(item)) is not None:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    except streams.OutputLost as lost:
        if lost.is_reader_gone:
            return ExitCode.READER_GONE
        sys.stderr.write(f"p2pfl: standard output cannot be written to: {lost}\n")
        return ExitCode.UNFIT
    if replay.damaged:
        sys.stderr.write(f"{replay.path}: {replay.damaged} unreadable lines were left out\n")
    return 0


def _theme(given: str | None) -> str:
    """Return the theme that is given, else the one remembered, else the dark one."""
    from tui import preferences
    from tui.theme import theme_name

    if given is not None:
        return theme_name(given)
    with contextlib.suppress(UserError):  # a later version may have had other themes
        return theme_name(preferences.load().theme or "dark")
    return theme_name("dark")


def _run(options: argparse.Namespace, source: Live | Replay) -> int:
    _no_animations()
    with uncollected():
        from tui import preferences
        from tui.app import Tui
        from tui.control import DemoControl
        from tui.notification import notification
        from tui.symbols import SYMBOL_SAMPLE

    demo = DemoControl(options.demo) if options.demo is not None else None
    is_in_browser = options.no_files
    can_draw = is_in_browser or streams.can_encode(sys.__stderr__, SYMBOL_SAMPLE)  # Textual draws there
    parent = os.getppid()
    app = Tui(
        source,
        ascii_only=options.ascii or not can_draw,
        theme=_theme(options.theme),
        demo=demo,
        is_abandoned=lambda: os.getppid() != parent,
    )
    app.session.writes_files = not is_in_browser
    if not is_in_browser:
        app.on_theme = lambda name: preferences.save(preferences.Preferences(name))
    if options.notify:
        app.on_over = lambda text: app.write_to_terminal(notification("p2pfl", text))
    # On a signal the app ends itself, which restores the terminal.
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
        return ExitCode.BUG
    if last and options.replay is None and options.demo is None:
        sys.stdout.write(f"detached from {last}. The node goes on; attach again with `{again}`\n")
    return 0


if __name__ == "__main__":
    streams.install_outlets()
    sys.exit(main())
