"""`p2pfl status` and `p2pfl watch`: observe a running node, once or as long as it runs.

Both connect to the node's own port as observers, which cannot slow the node down.
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

if TYPE_CHECKING:
    from p2pfl.observe.snapshot import Snapshot
    from p2pfl.observe.target import Target


def status(
    address: AddressArgument = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
) -> None:
    """Show what a running node and its federation are doing now."""
    import asyncio

    import msgspec

    from p2pfl.observe.snapshot import lines_of

    snapshot = asyncio.run(_look(find_node(address, data_dir, node, certs, name)))
    typer.echo(msgspec.json.encode(snapshot) if json else "\n".join(lines_of(snapshot)))


async def _look(target: Target) -> Snapshot:
    from p2pfl.observe.client import Observer
    from p2pfl.observe.snapshot import take_snapshot

    async with await Observer.connect(target) as observer:
        return await take_snapshot(observer)


def watch(
    address: AddressArgument = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line: past rounds, then every event.")
    ] = False,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: CertsOption = None,
    name: NameOption = None,
) -> None:
    """Print the events of a running node, line by line, until it ends."""
    follow(find_node(address, data_dir, node, certs, name), json=json)


def follow(target: Target, *, json: bool = False) -> None:
    """Print the events of the node at *target* until it ends or Ctrl-C; connection news goes to stderr.

    Raises:
        NetworkError: it does not answer, or refuses.
    """
    import asyncio
    import contextlib

    from p2pfl.observe.follow import Follower
    from p2pfl.observe.printer import EventPrinter

    printer = EventPrinter(typer.echo, lambda line: typer.echo(line, err=True), json=json)
    follower = Follower(target, is_patient=False)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follower.run(printer.deliver, printer.on_connection, lambda: None))
