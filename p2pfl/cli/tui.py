"""`p2pfl tui`: the terminal UI, which is a process of its own with the terminal to itself."""

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

from p2pfl.cli.which import (
    AddressArgument,
    CertsOption,
    DataDirOption,
    NameOption,
    NodeOption,
    find,
)

THEMES = ("dark", "light")


def tui(
    address: AddressArgument = None,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Show what 'p2pfl node --events FILE' recorded."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", metavar="X", min=0.25, max=64.0, help="Of the replay.")
    ] = 1.0,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="ASCII symbols only.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, as without a terminal.")] = False,
    theme: Annotated[str, typer.Option("--theme", metavar="dark|light", help="Colours.")] = THEMES[0],
) -> None:
    """Watch a running node, or a recording of one, on the terminal's whole screen."""
    from p2pfl.errors import UserError

    if theme not in THEMES:
        raise UserError(f"--theme is dark or light, not {theme!r}")
    if replay is not None and (address or data_dir or node or certs or name):
        raise UserError(
            "--replay shows a recording, and the other options name a node; give one or the other"
        )
    is_plain = plain or not has_screen()
    if replay is None:
        target = find(address, data_dir, node, certs, name)  # says now what the screen would say later
        if is_plain:
            from p2pfl.cli.watching import follow

            follow(target)
            return
    given = {"data-dir": data_dir, "node": node, "certs": certs, "name": name, "replay": replay}
    words = [f"--{option}={value}" for option, value in given.items() if value is not None]
    words += ["--ascii"] if ascii_only else []
    words += ["--plain"] if is_plain else []
    words += [f"--speed={speed:g}", f"--theme={theme}"]
    words += [address] if address is not None else []
    raise typer.Exit(run_tui(words))


def has_screen() -> bool:
    """Whether this process has a terminal that can be drawn on."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def run_tui(words: Sequence[str]) -> int:
    """Run the terminal UI with the command line *words* until it ends; return its exit code."""
    import subprocess

    from p2pfl import programs

    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def pass_on(number: int, _: object) -> None:
        """Tell the screen to end: it gives the terminal back first."""
        received.append(number)
        if process is not None:
            process.terminate()

    # Ctrl-C reaches both processes, and the screen answers it.
    with _handling({"SIGINT": _nothing, "SIGTERM": pass_on, "SIGHUP": pass_on}):
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [*programs.PYTHON, "tui", *words], env=programs.environment()
        )
        if received:
            process.terminate()
        code = process.wait()
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handling(handlers: Mapping[str, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Have signals handled meanwhile, except those that this system does not know or that are ignored."""
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
    """Do nothing; unlike SIG_IGN it is not handed on to the child."""
