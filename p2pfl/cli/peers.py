"""`p2pfl peers`: lists the nodes that this device has met, or forgets one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2pfl.identity.known_peers import KnownPeer

LEAST_ID = 7
"""Characters of a node id that name a node: as many as are shown."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    help="List the nodes that this device has met, or forget one.",
)

Certs = Annotated[
    Path,
    typer.Option("--certs", metavar="DIR", help="The folder of this device's certificate (default: certs)."),
]
Name = Annotated[str | None, typer.Option("--name", metavar="N", help="Which certificate of --certs to use.")]


@app.callback()
def peers(context: typer.Context, certs: Certs = Path("certs"), name: Name = None) -> None:
    """List the nodes that this device has met: it dials them, and waits for them before a run."""
    context.obj = (certs, name)
    if context.invoked_subcommand is not None:
        return
    known = _read(certs, name)[1]
    if not known:
        typer.echo("This device has met no other node yet.")
        return
    why_out = _excluded(certs, name)
    rows = [
        ("NAME", "NODE ID", "LAST LINKED", "ADDRESSES"),
        *(_row(peer, why_out(peer.node)) for peer in known),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def forget(
    context: typer.Context,
    node: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or the beginning of its node id.")],
    certs: Annotated[Path | None, typer.Option("--certs", metavar="DIR", hidden=True)] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="N", hidden=True)] = None,
) -> None:
    """Forget a node: this device dials it no more, and waits for it no more, until they are linked again."""
    from p2pfl.errors import UserError
    from p2pfl.identity.keys import short
    from p2pfl.identity.known_peers import save_known_peers
    from p2pfl.text import one_line

    above_certs, above_name = context.obj
    folder, known = _read(certs or above_certs, name or above_name)
    chosen = [peer for peer in known if peer.name == node]
    if not chosen and len(node) >= LEAST_ID:
        chosen = [peer for peer in known if peer.node.startswith(node)]
    if len(chosen) > 1:
        ids = ", ".join(short(peer.node) for peer in chosen)
        raise UserError(f"{len(chosen)} nodes are called {one_line(node, 64)}: give the id of one, of {ids}.")
    if not chosen:
        names = ", ".join(one_line(peer.name, 64) for peer in known) or "none"
        raise UserError(
            f"This device knows no node {one_line(node, 64)!r}. It knows: {names}; `p2pfl peers` has more."
        )
    save_known_peers(folder, (peer for peer in known if peer is not chosen[0]))
    typer.echo(f"Forgot {one_line(chosen[0].name, 64)} ({short(chosen[0].node)}).")


def _read(certs: Path, name: str | None) -> tuple[Path, Sequence[KnownPeer]]:
    """Return the device's folder and the nodes in its file, the last one linked first.

    Raises:
        CredentialsError: the device has no certificate there.
    """
    from p2pfl.identity.credentials import read_credentials
    from p2pfl.identity.known_peers import read_known_peers

    folder = read_credentials(certs, name).directory
    return folder, sorted(read_known_peers(folder).values(), key=lambda peer: (-peer.at, peer.node))


def _excluded(certs: Path, name: str | None) -> Callable[[str], str]:
    """Return a function that says why the node with an id is kept out, empty if it is not."""
    from p2pfl.errors import CredentialsError
    from p2pfl.identity.credentials import read_credentials
    from p2pfl.identity.exclusions import Exclusions

    try:
        exclusions = Exclusions(read_credentials(certs, name))
    except CredentialsError as error:
        typer.echo(f"Who is banned is not shown: {error}", err=True)
        return lambda _: ""
    if exclusions.remark:
        typer.echo(f"Who is banned is not shown: {exclusions.remark}", err=True)
    return exclusions.describe


def _row(peer: KnownPeer, why_out: str) -> tuple[str, str, str, str]:
    from p2pfl.identity.keys import short
    from p2pfl.runtime.met_peers import FORGOTTEN_AFTER
    from p2pfl.text import one_line

    at = datetime.fromtimestamp(peer.at, UTC)
    is_late = (datetime.now(UTC) - at).total_seconds() > FORGOTTEN_AFTER
    when = at.strftime("%Y-%m-%d %H:%M UTC") + (", not waited for" if is_late and not why_out else "")
    where = f"not dialled: it {why_out}" if why_out else ", ".join(peer.addresses)
    return one_line(peer.name), short(peer.node), when, one_line(where, 300 if why_out else 120)
