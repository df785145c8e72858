"""The commands to a running node: the result goes to standard output, a refusal ends with exit code 1.

Pause, resume and stop are requests to the whole federation; any of its nodes takes them. They take effect for
all members, with the commit of the open round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.options import (
    AddressArgument,
    CertsOption,
    DataDirOption,
    NameOption,
    NodeOption,
    find_node,
)
from p2pfl.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pfl.observe.target import Target
    from p2pfl.wire.observing import CommandName


def _command(what: CommandName, text: str) -> Callable[..., None]:
    """Return the command *what* as a function for Typer; *text* is its help."""

    def give(
        address: AddressArgument = None,
        data_dir: DataDirOption = None,
        node: NodeOption = None,
        certs: CertsOption = None,
        name: NameOption = None,
    ) -> None:
        _order(what, find_node(address, data_dir, node, certs, name))

    give.__doc__ = text
    return give


start = _command("start", "Start the run with the options of a waiting node; ends its --wait.")
pause = _command("pause", "Pause the run of the whole federation after the open round.")
resume = _command("resume", "Resume a paused run.")
leave = _command("leave", "Make a node leave politely: the others go on without it.")
save = _command("save", "Make a node save the last committed model to a file in its data directory.")


def stop(
    address: AddressArgument = None,
    now: Annotated[
        bool, typer.Option("--now", help="Stop training and end the round with the updates that are there.")
    ] = False,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
) -> None:
    """End the run of the whole federation after the open round."""
    _order("stop-now" if now else "stop", find_node(address, data_dir, node, certs, name))


def _order(what: CommandName, target: Target) -> None:
    """Send the command *what* to the node at *target* and print the result.

    Raises:
        NetworkError: it cannot be reached, or the connection broke before its answer.
    """
    import asyncio

    from p2pfl.observe.client import command
    from p2pfl.text import one_line

    answer = asyncio.run(command(target, what))
    if answer.refused:
        typer.echo(f"refused: {one_line(answer.refused, 400)}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"done: {one_line(answer.text, 400)}")
