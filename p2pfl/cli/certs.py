"""`p2pfl certs`: creates a federation's CA, issues certificates to devices, and shows them.

The work is done by `p2pfl.identity.authority`, which is imported only when a command runs: `p2pfl --help`
must not wait for a cryptography library.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.paths import quoted

if TYPE_CHECKING:
    from p2pfl.identity.authority import IssuedCertificate

SOON = timedelta(days=30)
"""Certificates that expire within this time are reported: a month to visit every device."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Create and show the certificates of a federation's devices.",
)


class RoleOption(StrEnum):
    """The choices of --role: `p2pfl.identity.names.Role` in the form Typer reads."""

    NODE = "node"
    OPERATOR = "operator"
    OBSERVER = "observer"


Folder = Annotated[
    Path,
    typer.Option("--certs", metavar="DIR", help="The folder of the CA and its certificates."),
]


@app.command()
def init(
    certs: Folder = Path("certs"),
    federation: Annotated[
        str, typer.Option(metavar="NAME", help="The federation's name; every certificate carries it.")
    ] = "p2pfl",
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an existing CA: every device then needs a new certificate."),
    ] = False,
) -> None:
    """Create the federation's CA: once, on the machine that will issue certificates."""
    from p2pfl.identity.authority import AUTHORITY_KEY_FILE, create_authority

    create_authority(certs, federation, force=force)
    typer.echo(f"Made the CA of the federation {federation!r} in {certs}.")
    typer.echo(
        f"Keep {certs / AUTHORITY_KEY_FILE} to yourself: who has it can add devices. Nodes run without it."
    )
    typer.echo(f"Next, for each device: p2pfl certs issue NAME{_certs_option(certs)}")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device's name.", show_default=False)],
    certs: Folder = Path("certs"),
    role: Annotated[
        RoleOption | None,
        typer.Option(
            help="node: train and vote; operator: command nodes; observer: watch them.  [default: node]"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace key and certificate: the device becomes a new node.")
    ] = False,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Issue a new certificate for the same key: the device stays the same node."
        ),
    ] = False,
) -> None:
    """Issue a key and a certificate for a device, in one folder to copy to it."""
    from p2pfl.identity import authority
    from p2pfl.identity.keys import short

    if renew and (force or role is not None):
        raise typer.BadParameter("--renew keeps key and role, so it goes with neither --force nor --role.")
    if renew:
        folder = authority.renew(certs, name)
    else:
        folder = authority.issue(certs, name, (role or RoleOption.NODE).value, force=force)
    issued = authority.list_certificates(folder)[0]
    done = "Renewed" if renew else "Issued"
    typer.echo(
        f"{done} {name} ({issued.role}, {short(issued.node_id)}), until {_day(issued.not_after)}: {folder}"
    )
    if renew:
        typer.echo("Copy its node.crt to the device, over the old one, and start the device again.")
        return
    typer.echo("Copy this folder to the device, where nobody else can read it on its way: it holds the key.")
    if issued.role == "node":
        typer.echo(f"Start the node there with: p2pfl node --certs {name} --peers HOST:PORT,...")
    else:
        may = "watch and command" if issued.role == "operator" else "watch"
        typer.echo(f"It is for a person, to {may} a node from elsewhere: p2pfl tui HOST:PORT --certs {name}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device's name.", show_default=False)],
    certs: Folder = Path("certs"),
) -> None:
    """Revoke a device's certificate and every other one of its key, whatever its role; for good."""
    from p2pfl.identity.keys import short
    from p2pfl.identity.revocation import REVOCATIONS_FILE, revoke

    key, listed = revoke(certs, name)
    typer.echo(
        f"Revoked {name} ({short(key)}), in revocation list {listed.number}: {certs / REVOCATIONS_FILE}"
    )
    typer.echo(
        f"A node that runs on a folder in {certs} tells it to all others within seconds. Otherwise copy "
        f"{REVOCATIONS_FILE} into the folder of any one running node: all others hear of it."
    )
    typer.echo(
        "If it was an operator's, what it said about members counts no more: `p2pfl bans` shows what holds."
    )


@app.command()
def show(certs: Folder = Path("certs")) -> None:
    """Show the certificates in a folder of a CA or a device: names, roles, node ids, expiry."""
    from p2pfl.errors import CredentialsError
    from p2pfl.identity.authority import list_certificates, read_federation

    issued = list_certificates(certs)
    federation = read_federation(certs)
    if federation is None and not issued:
        raise CredentialsError(
            f"There are no certificates in {certs}. Make a CA with `p2pfl certs init`, or name the folder "
            "with --certs."
        )
    if federation is not None:
        typer.echo(f"Federation {federation.name!r}, CA valid until {_day(federation.not_after)}.")
    if not issued:
        typer.echo(
            f"No certificates yet. Next, for each device: p2pfl certs issue NAME{_certs_option(certs)}"
        )
        return
    now = datetime.now(UTC)
    rows = [("NAME", "ROLE", "EXPIRES", "NODE ID"), *(_row(entry, now) for entry in issued)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(issued: IssuedCertificate, now: datetime) -> tuple[str, str, str, str]:
    """Return the line of `show` for one certificate."""
    expires = _day(issued.not_after)
    if now > issued.not_after:
        expires += " EXPIRED"
    elif now < issued.not_before:
        expires += f" NOT VALID BEFORE {_day(issued.not_before)}"
    elif issued.not_after - now < SOON:
        expires += f" in {(issued.not_after - now).days} days"
    return issued.name, issued.role, expires, issued.node_id


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _certs_option(certs: Path) -> str:
    """Return what a suggested command needs to find *certs* again."""
    return "" if certs == Path("certs") else f" --certs {quoted(certs)}"
