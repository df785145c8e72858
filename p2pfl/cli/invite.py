"""`p2pfl invite`: lets other devices join the federation with a few spoken words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.certs import PassphraseFile, RoleOption
from p2pfl.exit_codes import ExitCode

if TYPE_CHECKING:
    from p2pfl.enrolment.invitation import InvitationState
    from p2pfl.enrolment.serving import InvitationOptions


def invite(
    certs: Annotated[Path, typer.Option("--certs", metavar="DIR", help="The folder of the CA.")] = Path(
        "certs"
    ),
    count: Annotated[
        int, typer.Option("--count", metavar="N", help="Number of devices that can join with the code.")
    ] = 1,
    ttl: Annotated[
        str,
        typer.Option("--ttl", metavar="TIME", help="How long the code is of use, such as 90s, 15m or 1h."),
    ] = "15m",
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="[HOST:]PORT",
            help="Where to listen (default: port 9010 on every interface, or any free port).",
            show_default=False,
        ),
    ] = None,
    role: Annotated[
        RoleOption,
        typer.Option(help="node: train and vote; operator: command nodes; observer: watch them."),
    ] = RoleOption.NODE,
    yes: Annotated[
        bool, typer.Option("--yes", help="Let in every device that knows the code, without a question.")
    ] = False,
    peers: Annotated[
        str,
        typer.Option(
            "--peers",
            metavar="A:PORT,B:PORT",
            help="Nodes that run already: devices that join are told of them.",
            show_default=False,
        ),
    ] = "",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Let other devices join the federation with a few spoken words."""
    from p2pfl.cli.inviting import check_can_confirm, tell_end
    from p2pfl.cli.passphrases import authority_passphrase
    from p2pfl.enrolment.serving import InvitationOptions, parse_ttl
    from p2pfl.net.transport import tasks
    from p2pfl.net.transport.addresses import parse_listen

    options = InvitationOptions(
        certs,
        count=count,
        ttl=parse_ttl(ttl),
        role=role.value,
        listen=None if listen is None else parse_listen(listen),
        peers=tuple(part.strip() for part in peers.split(",") if part.strip()),
    )
    check_can_confirm(yes=yes)
    options = replace(options, passphrase=authority_passphrase(certs, passphrase_file))
    try:
        state = tasks.run(_invite(options, yes=yes))
    except KeyboardInterrupt:
        typer.echo("The invitation has ended: it was stopped here.", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    tell_end(state)
    raise typer.Exit(ExitCode.COMPLETE if state == "full" else ExitCode.FAILED)


async def _invite(options: InvitationOptions, *, yes: bool) -> InvitationState:
    """Serve the invitation to its end; print what is typed on the devices that join."""
    import contextlib

    from p2pfl.cli.inviting import confirmer, tell
    from p2pfl.cli.keyboard import Keyboard
    from p2pfl.enrolment.serving import serving
    from p2pfl.text import plural

    keyboard = Keyboard()
    with contextlib.nullcontext() if yes else keyboard.reading():
        async with serving(options, None if yes else confirmer(keyboard), tell) as invitation:
            many = f"{options.count} {plural(options.count, 'device')}"
            tell(f"{many} can join the federation {invitation.federation!r} as {options.role}. Type there:")
            typer.echo(invitation.command)
            if not invitation.address.is_loopback:
                tell(f"or only `p2pfl join`, and the code when it asks: {invitation.code}")
            tell("This ends with Ctrl-C." if not invitation.goes_on else "An earlier invitation goes on.")
            return await invitation.inviter.until_end()
