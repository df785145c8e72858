"""`p2pfl tui`: runs the terminal UI, a process of its own that uses the whole terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from p2pfl.cli.options import (
    NOTIFY_HELP,
    THEME_HELP,
    AddressArgument,
    CertsOption,
    DataDirOption,
    NameOption,
    NodeOption,
    find_node,
)


def tui(
    address: AddressArgument = None,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Show a recording made by 'p2pfl node --events FILE'."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            metavar="X",
            min=0.25,
            max=64.0,
            help="Speed of the replay.  [default: 1; as needed for a minute with --cast, 20 s "
            "with --animate]",
            show_default=False,
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", metavar="FILE", help="Write one frame of --replay as SVG; no terminal is used."
        ),
    ] = None,
    animate: Annotated[
        bool,
        typer.Option("--animate", help="With --svg: all of --replay, as a picture that moves by itself."),
    ] = False,
    cast: Annotated[
        Path | None,
        typer.Option("--cast", metavar="FILE", help="Write all of --replay for 'asciinema play'."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="SECONDS|rN",
            help="With --svg: seconds from the beginning, or the end of a round.  [default: the end]",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="120x40",
            help="With --svg and --cast: columns and rows.  [default: 120x40]",
            show_default=False,
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="[HOST:]PORT",
            help="Show it in a browser, at a link with a token; on this device only, unless a host is given.",
            show_default=False,
        ),
    ] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Use ASCII symbols only.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print plain lines, as without a terminal.")] = False,
    theme: Annotated[
        str | None,
        typer.Option(
            "--theme",
            metavar="NAME",
            help=THEME_HELP,
            show_default=False,
        ),
    ] = None,
    notify: Annotated[bool, typer.Option("--notify", help=NOTIFY_HELP)] = False,
) -> None:
    """Open the terminal UI on a running node, or on a recording of one."""
    from p2pfl.errors import UserError

    if replay is not None and (address or data_dir or node or certs or name):
        raise UserError(
            "--replay shows a recording, and the other options name a node; give one or the other"
        )
    is_written = svg is not None or cast is not None
    _check_writing(replay, is_written=is_written, svg=svg, at=at, size=size, animate=animate)
    if serve is not None and (plain or is_written):
        raise UserError("--serve shows screens in a browser; --plain, --svg and --cast go without it")
    is_plain = serve is None and not is_written and (plain or not has_screen())
    if replay is None:
        target = find_node(address, data_dir, node, certs, name)  # says now what the screen would say later
        if is_plain:
            from p2pfl.cli.watching import follow

            follow(target)
            return
    given = {
        "data-dir": data_dir,
        "node": node,
        "certs": certs,
        "name": name,
        "replay": replay,
        "svg": svg,
        "cast": cast,
        "at": at,
        "size": size,
        "serve": serve,
        "theme": theme,
        "speed": None if speed is None else f"{speed:g}",
    }
    words = [f"--{option}={value}" for option, value in given.items() if value is not None]
    words += ["--animate"] if animate else []
    words += ["--ascii"] if ascii_only else []
    words += ["--plain"] if is_plain else []
    words += ["--notify"] if notify else []
    words += [address] if address is not None else []
    raise typer.Exit(run_tui(words))


def _check_writing(
    replay: Path | None,
    *,
    is_written: bool,
    svg: Path | None,
    at: str | None,
    size: str | None,
    animate: bool,
) -> None:
    """Refuse options of the files that are written where none is."""
    from p2pfl.errors import UserError

    if is_written and replay is None:
        raise UserError("--svg and --cast draw a recording: give one with --replay FILE")
    if at is not None and svg is None:
        raise UserError("--at names the moment of the frame: give its file with --svg FILE")
    if animate and (svg is None or at is not None):
        raise UserError("--animate draws all of a recording: give its file with --svg FILE, without --at")
    if size is not None and not is_written:
        raise UserError("--size is that of a file: give one with --svg FILE or --cast FILE")


def has_screen() -> bool:
    """Whether this process has a terminal that the terminal UI can use."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def run_tui(words: Sequence[str]) -> int:
    """Run the terminal UI with the arguments *words* until it ends; return its exit code."""
    import subprocess

    from p2pfl.programs import start

    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def pass_on(number: int, _: object) -> None:
        """Make the terminal UI end: it restores the terminal first."""
        received.append(number)
        if process is not None:
            process.terminate()

    # Ctrl-C reaches both processes; the terminal UI handles it.
    with _handling({"SIGINT": _nothing, "SIGTERM": pass_on, "SIGHUP": pass_on}):
        process = start("tui", *words)
        if received:
            process.terminate()
        code = process.wait()
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handling(handlers: Mapping[str, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Install signal *handlers* meanwhile, except for signals that are unknown here or ignored."""
    before = {}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _nothing(*_: object) -> None:
    """Do nothing; unlike SIG_IGN, the child does not inherit it."""
