"""`p2pfl up`: the first device of a federation in one command.

The node runs as a process of its own, and this one has the terminal: it asks about devices that join, and
passes Enter and signals on to the node. The node's lines appear between those of this process.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfl.cli.certs import PassphraseFile
from p2pfl.cli.options import WORDS, GroupedCommand
from p2pfl.errors import CredentialsError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfl.enrolment.serving import InvitationOptions, OpenInvitation

MOST = 32
"""Seats without --count: a school class."""

NODE = "Options of the node, as of 'p2pfl node', which gets all others too"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _node(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=NODE, show_default=False, **settings)


@app.command(
    "up",
    cls=GroupedCommand,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def up(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="N",
            help="How this device is called (default: its host name).",
            show_default=False,
        ),
    ] = None,
    federation: Annotated[
        str | None,
        typer.Option(
            "--federation",
            metavar="NAME",
            help="The name of a new federation (default: p2pfl).",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            help="Start by itself when N others are linked (default: when Enter is pressed).",
            show_default=False,
        ),
    ] = None,
    ttl: Annotated[
        str,
        typer.Option("--ttl", metavar="TIME", help="How long the code is of use, such as 90s, 15m or 1h."),
    ] = "15m",
    yes: Annotated[
        bool, typer.Option("--yes", help="Let in every device that knows the code, without a question.")
    ] = False,
    certs: Annotated[
        Path,
        typer.Option(
            "--certs", metavar="DIR", help="The folder of the CA, which is made if it is not there."
        ),
    ] = Path("certs"),
    invite_on: Annotated[
        str | None,
        typer.Option(
            "--invite-on",
            metavar="[HOST:]PORT",
            help="Where devices join (default: port 9010, or any free port).",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[str, _node("--listen", metavar="[HOST:]PORT")] = "9000",
    data_dir: Annotated[Path | None, _node("--data-dir", metavar="DIR")] = None,
    task: Annotated[str | None, _node("--task", metavar="T")] = None,
    data: Annotated[Path | None, _node("--data", metavar="PATH")] = None,
    model: Annotated[str | None, _node("--model", metavar="M")] = None,
    rounds: Annotated[int | None, _node("--rounds", metavar="R")] = None,
    strategy: Annotated[str | None, _node("--strategy", metavar="NAME")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a federation on its first device: CA, certificate, invitation and node in one."""
    from p2pfl.cli import load
    from p2pfl.cli.inviting import check_can_confirm
    from p2pfl.enrolment.serving import InvitationOptions, parse_ttl
    from p2pfl.net.transport import tasks
    from p2pfl.net.transport.addresses import parse_listen

    node_host, node_port = parse_listen(listen)
    options = InvitationOptions(
        certs,
        count=MOST if count is None else count,
        ttl=parse_ttl(ttl),
        listen=parse_listen(invite_on) if invite_on is not None else (node_host, 0) if node_host else None,
        node_port=node_port,
    )
    given = {
        "--listen": listen,
        "--data-dir": data_dir,
        "--task": task,
        "--data": data,
        "--model": model,
        "--rounds": rounds,
        "--strategy": strategy,
        "--passphrase-file": passphrase_file,
    }
    before, script = _parted(context)
    words = [
        "--wait" if count is None else f"--min-nodes={count + 1}",
        *(f"{option}={value}" for option, value in given.items() if value is not None),
        *before,
    ]
    load("node").make_context("p2pfl up", [*words, *script])  # names a mistake before anything is made
    check_can_confirm(yes=yes)
    own, passphrase = prepare(certs, name, federation, passphrase_file)
    options = replace(options, passphrase=passphrase)
    words += [f"--certs={certs / own}", *script]
    raise typer.Exit(tasks.run(_run(options, own, words, is_held=count is None, yes=yes)))


def _parted(context: typer.Context) -> tuple[list[str], list[str]]:
    """Return the other options of the node, and "--" with the script's arguments: empty if there are none."""
    given = list(context.meta[WORDS])
    script = given[given.index("--") :] if "--" in given else []
    options = len(context.args) - len(script[1:])  # "--" itself is in none of them
    return context.args[:options], script


def prepare(
    certs: Path, name: str | None, federation: str | None, passphrase_file: Path | None = None
) -> tuple[str, bytes | None]:
    """Make the CA and this device's certificate in *certs* where they are missing.

    Return the device's name, and the passphrase of the CA's key: from *passphrase_file*, or asked for.

    Raises:
        UserError: what is there does not fit.
    """
    from p2pfl.cli.passphrases import authority_passphrase
    from p2pfl.enrolment.device_names import host_device_name
    from p2pfl.identity.authority import (
        AUTHORITY_KEY_FILE,
        create_authority,
        issue,
        list_certificates,
        read_federation,
    )
    from p2pfl.identity.credentials import KEY_FILE
    from p2pfl.identity.names import DEFAULT_FEDERATION
    from p2pfl.paths import holds_file

    own = [one for one in list_certificates(certs) if holds_file(one.directory / KEY_FILE)]
    there = read_federation(certs)
    if there is None and own:
        raise CredentialsError(
            f"This device has joined the federation {own[0].federation!r} already, as {own[0].name}: start "
            f"it with `p2pfl node --certs {certs}`, or make another federation with another --certs."
        )
    if there is None:
        create_authority(certs, federation or DEFAULT_FEDERATION)
        typer.echo(
            f"Made the federation {federation or DEFAULT_FEDERATION!r}. Keep {certs / AUTHORITY_KEY_FILE} "
            "to yourself."
        )
    elif federation not in (None, there.name):
        raise UserError(
            f"--federation is {federation!r}, and {certs} holds the CA of {there.name!r}: leave the option "
            "out, or make another federation with another --certs."
        )
    passphrase = authority_passphrase(certs, passphrase_file)
    names = [one.name for one in own]
    if name is None and len(names) > 1:
        raise UserError(
            f"{certs} holds the keys of several devices ({', '.join(names)}): name this one with --name."
        )
    chosen = name or (names[0] if names else host_device_name())
    if chosen not in names:
        issue(certs, chosen, passphrase=passphrase)
    return chosen, passphrase


async def _run(
    options: InvitationOptions, own: str, words: Sequence[str], *, is_held: bool, yes: bool
) -> int:
    """Serve the invitation, and run the node to its end; return the node's exit code."""
    import asyncio
    import contextlib

    from p2pfl.cli.inviting import confirmer, tell, tell_end
    from p2pfl.cli.keyboard import Keyboard
    from p2pfl.cli.node_process import LocalNodeProcess
    from p2pfl.enrolment.serving import serving

    node = LocalNodeProcess(words)
    keyboard = Keyboard(node.press_enter if is_held else lambda: None)
    with keyboard.reading() if is_held or not yes else contextlib.nullcontext():
        async with serving(options, None if yes else confirmer(keyboard), tell) as invitation:
            typer.echo(_banner(invitation, own, options, is_held=is_held, yes=yes))
            await node.start()
            ended = asyncio.create_task(invitation.inviter.until_end())
            exited = asyncio.create_task(node.wait())
            await asyncio.wait((ended, exited), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                tell_end(ended.result())
            ended.cancel()
        return await exited


def _devices(count: int) -> str:
    return "another device is" if count == 1 else f"{count} other devices are"


def _banner(
    invitation: OpenInvitation, own: str, options: InvitationOptions, *, is_held: bool, yes: bool
) -> str:
    """Return what a person reads who has just started the first device."""
    asked = "It is let in at once." if yes else "Its name appears here: let it in with y and Enter."
    start = (
        "Press Enter when everybody is here: then the training starts."
        if is_held
        else f"The training starts by itself when {_devices(options.count)} linked."
    )
    whole = f"{invitation.command} --start"
    if invitation.address.is_loopback:  # announced to nobody
        typed = f"  Type in another terminal:\n\n      {whole}\n\n"
    else:
        typed = (
            f"  Type on each other device:\n\n      p2pfl join --start\n\n"
            f"  and then the code:\n\n      {invitation.code}\n\n"
            f"  If it does not find this device:  {whole}\n\n"
        )
    return (
        f"\n  This is {own}, of the federation {invitation.federation!r}.\n\n{typed}"
        f"  {asked}\n  The code is of use for {options.ttl / 60:g} minutes, until {invitation.shown_end}.\n\n"
        f"  {start}\n"
    )
