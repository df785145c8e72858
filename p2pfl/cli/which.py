"""Options that say which running node is meant: the same for every command that watches or commands one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from p2pfl.observe.target import Target

WHICH = "Which node (none of these: your only one on this machine)"

AddressArgument = Annotated[
    str | None, typer.Argument(metavar="HOST:PORT", help="The address of a node, with --certs.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The data directory of a node of yours on this machine.",
        rich_help_panel=WHICH,
    ),
]
NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="The same by its name, where it runs without --data-dir.",
        rich_help_panel=WHICH,
    ),
]
CertsOption = Annotated[
    Path | None,
    typer.Option(
        "--certs",
        metavar="DIR",
        help="A certificate of role observer or operator, for HOST:PORT (default: certs).",
        rich_help_panel=WHICH,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="N", help="Which certificate of --certs to use.", rich_help_panel=WHICH),
]


def find(
    address: str | None, data_dir: Path | None, node: str | None, certs: Path | None, name: str | None
) -> Target:
    """Return the node these options mean.

    Raises:
        UserError: there is no such node, or no way to it; the message says what to give.
    """
    from p2pfl.observe.target import find_target

    return find_target(address, data_dir=data_dir, node=node, certs=certs, name=name)
