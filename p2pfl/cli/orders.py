"""The commands to a running node: what was done goes to standard output, a refusal is exit code 1.

Pausing, resuming and stopping are decisions of the whole federation, which any of its nodes takes: they hold
for all members, and where a round is open with its commit.
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
    from p2pfl.wire.observing import What


def _command(what: What, text: str) -> Callable[..., None]:
    """Return the command *what* as Typer takes it, with *text* as its help."""

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


start = _command("start", "Give the start that a node run with --wait holds back.")
pause = _command("pause", "Pause the run of the whole federation after the open round.")
resume = _command("resume", "Let a paused run go on.")
leave = _command("leave", "Make one node of yours leave politely: the others go on without it.")
save = _command("save", "Make a node save the last committed model as a file in its data directory.")


def stop(
    address: AddressArgument = None,
    now: Annotated[
        bool, typer.Option("--now", help="With the updates there are: nobody finishes its training.")
    ] = False,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
) -> None:
    """End the run of the whole federation after the open round."""
    _order("stop-now" if now else "stop", find_node(address, data_dir, node, certs, name))


def _order(what: What, target: Target) -> None:
    """Give the command *what* to the node at *target* and say what came of it.

    Raises:
        NetworkError: it cannot be reached, or the connection broke before its answer.
    """
    import asyncio

    from p2pfl.observe.client import command
    from p2pfl.wire.codec import bounded

    answer = asyncio.run(command(target, what))
    if answer.refused:
        typer.echo(f"refused: {bounded(answer.refused, 400)}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"done: {bounded(answer.text, 400)}")
