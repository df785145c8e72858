"""`p2pfl certs`: creates a federation's CA, issues certificates, signs requests for them, and shows them.

The work is done by modules of `p2pfl.identity`, which are imported only when a command runs: `p2pfl --help`
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
    from p2pfl.identity.names import Role

SOON = timedelta(days=30)
"""Certificates that expire within this time are reported: a month to visit every device."""

SHORT_LIVED = timedelta(days=3)
"""Certificates that end within this time are told with the time of their end."""

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
Days = Annotated[
    float | None,
    typer.Option(
        "--days",
        metavar="D",
        help="How long the certificate is valid; fractions count.",
        min=1 / 1440,
        max=36525,
        show_default=False,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="A file whose first line is the passphrase of ca.key (default: asked for if needed).",
        show_default=False,
    ),
]
RoleChoice = Annotated[
    RoleOption | None,
    typer.Option(
        help="node: train and vote; operator: command nodes; observer: watch them.  [default: node]",
        show_default=False,
    ),
]


@app.command()
def init(
    certs: Folder = Path("certs"),
    federation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The federation's name; every certificate carries it.  [default: p2pfl]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an existing CA: every device then needs a new certificate."),
    ] = False,
    days: Days = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Encrypt ca.key with a passphrase, which is asked for.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    ca_cert: Annotated[
        Path | None,
        typer.Option(
            "--ca-cert",
            metavar="FILE",
            help="The certificate of an existing CA, which signs that of the federation's.",
            show_default=False,
        ),
    ] = None,
    ca_key: Annotated[
        Path | None,
        typer.Option(
            "--ca-key",
            metavar="FILE",
            help="The key of that CA: needed now, never again, and not stored.",
            show_default=False,
        ),
    ] = None,
    ca_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-passphrase-file",
            metavar="FILE",
            help="A file with the passphrase of --ca-key (default: asked for if needed).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create the federation's CA: once, on the machine that will issue certificates."""
    from p2pfl.cli.passphrases import new_passphrase, with_passphrase
    from p2pfl.identity import authority
    from p2pfl.identity.names import DEFAULT_FEDERATION
    from p2pfl.identity.parent_authority import read_parent_authority

    if (ca_cert is None) != (ca_key is None) or (ca_passphrase_file is not None and ca_key is None):
        raise typer.BadParameter("--ca-cert and --ca-key go together: give the files of one CA.")
    parent = None
    if ca_cert is not None and ca_key is not None:
        cert_path, key_path = ca_cert, ca_key
        parent = with_passphrase(
            ca_passphrase_file,
            lambda entered: read_parent_authority(cert_path, key_path, entered),
            str(ca_key),
            "--ca-passphrase-file",
        )
    is_federations = parent is not None and parent.federation is not None
    if is_federations and days is not None:
        raise typer.BadParameter(f"{ca_cert} has its dates already: leave --days out.")
    if parent is not None and is_federations and federation not in (None, parent.federation):
        raise typer.BadParameter(f"{ca_cert} is the CA of the federation {parent.federation!r}.")
    authority.check_no_authority(certs, force=force)
    secret = new_passphrase(passphrase_file) if passphrase or passphrase_file is not None else None
    if parent is not None and is_federations:
        name = authority.adopt_authority(certs, parent, force=force, passphrase=secret)
        typer.echo(f"Stored the CA of the federation {name!r} in {certs}.")
    else:
        name = federation or DEFAULT_FEDERATION
        authority.create_authority(certs, name, force=force, days=days, passphrase=secret, parent=parent)
        below = f", below the CA in {ca_cert}" if parent is not None else ""
        typer.echo(f"Made the CA of the federation {name!r} in {certs}{below}.")
    typer.echo(f"Keep {certs / authority.AUTHORITY_KEY_FILE} to yourself: who has it can add devices.")
    typer.echo(f"Next, for each device: p2pfl certs issue NAME{_certs_option(certs)}")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device's name.", show_default=False)],
    certs: Folder = Path("certs"),
    role: RoleChoice = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace key and certificate: the device becomes a new node.")
    ] = False,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Issue a new certificate for the same key: the device stays the same node."
        ),
    ] = False,
    days: Days = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Issue a key and a certificate for a device, in one folder to copy to it."""
    from p2pfl.cli.passphrases import with_passphrase
    from p2pfl.identity import authority

    if renew and (force or role is not None):
        raise typer.BadParameter("--renew keeps key and role, so it goes with neither --force nor --role.")

    def make(passphrase: bytes | None) -> Path:
        if renew:
            return authority.renew(certs, name, days=days, passphrase=passphrase)
        chosen: Role = role.value if role is not None else "node"
        return authority.issue(certs, name, chosen, force=force, days=days, passphrase=passphrase)

    folder = with_passphrase(passphrase_file, make)
    issued = authority.list_certificates(folder)[0]
    typer.echo(f"{'Renewed' if renew else 'Issued'} {_described(issued)}: {folder}")
    if renew:
        typer.echo(
            "Copy its node.crt to the device, over the old one. A node that runs there as a service takes it "
            "with SIGHUP, any other when it is started again."
        )
        return
    typer.echo("Copy this folder to the device, where nobody else can read it on its way: it holds the key.")
    _say_how_to_start(issued, Path(name), " there")


@app.command()
def request(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name this device wishes.", show_default=False)
    ],
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="Where the folder NAME is made.")
    ] = Path("certs"),
    force: Annotated[
        bool, typer.Option("--force", help="Make a new key: the device becomes a new node.")
    ] = False,
) -> None:
    """Make a key on this device, and a signing request for the CA; the key never leaves it."""
    from p2pfl.identity.keys import node_id_of, short
    from p2pfl.identity.requests import make_request, read_request

    path = make_request(certs, name, force=force)
    wished, _ = read_request(path)
    typer.echo(f"Made a key for {name} ({short(node_id_of(wished.public_key()))}), and the request {path}.")
    typer.echo(
        f"Carry the request to the machine of the CA, and run there: p2pfl certs sign {path.name}. It is no "
        "secret; the key beside it is, and stays here."
    )
    typer.echo(f"Then bring back the file {name}.crt: p2pfl certs accept {name}.crt{_certs_option(certs)}")


@app.command()
def sign(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The request, from 'p2pfl certs request'.", show_default=False),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="N", help="Another name than the device wishes.", show_default=False),
    ] = None,
    role: RoleChoice = None,
    days: Days = None,
    certs: Folder = Path("certs"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the answer is written (default: NAME.crt beside the request).",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the device that has the name: its key is another one.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the request of a device; the answer is one file to carry back to it."""
    from p2pfl.cli.passphrases import with_passphrase
    from p2pfl.identity.authority import list_certificates, open_authority
    from p2pfl.identity.keys import write_file
    from p2pfl.identity.names import check_name
    from p2pfl.identity.requests import answer_request, fingerprint, read_request

    wished, wished_name = read_request(file)
    chosen = check_name(name or wished_name)
    authority = with_passphrase(passphrase_file, lambda entered: open_authority(certs, entered))
    answer = answer_request(authority, wished, chosen, role.value if role else None, days=days, force=force)
    target = out or file.with_name(f"{chosen}.crt")
    write_file(target, answer)
    issued = list_certificates(certs / chosen)[0]
    typer.echo(f"Signed {_described(issued)}: {target}")
    typer.echo(
        f"Carry this file back to the device, and run there: p2pfl certs accept {quoted(target.name)}. It is "
        f"no secret. The CA's fingerprint, which the device shows too: {fingerprint(authority.certificate)}"
    )


@app.command()
def accept(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The answer, from 'p2pfl certs sign'.", show_default=False)
    ],
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="The folder given to 'p2pfl certs request'.")
    ] = Path("certs"),
    force: Annotated[
        bool, typer.Option("--force", help="Change to another CA, and so to another federation.")
    ] = False,
) -> None:
    """Install the certificate that the CA signed, after checks against this device's key."""
    from p2pfl.identity.authority import list_certificates
    from p2pfl.identity.credentials import read_certificate
    from p2pfl.identity.requests import accept_answer, fingerprint

    credentials = accept_answer(file, certs, force=force)
    issued = list_certificates(credentials.directory)[0]
    typer.echo(f"Accepted {_described(issued)}, in the federation {issued.federation!r}: {issued.directory}")
    typer.echo(f"The CA's fingerprint is {fingerprint(read_certificate(credentials.authority_path))}.")
    _say_how_to_start(issued, issued.directory)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The device's name.", show_default=False)],
    certs: Folder = Path("certs"),
    passphrase_file: PassphraseFile = None,
) -> None:
    """Revoke a device's certificate and every other one of its key, whatever its role; for good."""
    from p2pfl.cli.passphrases import with_passphrase
    from p2pfl.identity.keys import short
    from p2pfl.identity.revocation import REVOCATIONS_FILE, revoke

    key, listed = with_passphrase(passphrase_file, lambda entered: revoke(certs, name, passphrase=entered))
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


def _described(issued: IssuedCertificate) -> str:
    """Return name, role, short node id and end of a certificate."""
    from p2pfl.identity.keys import short

    return f"{issued.name} ({issued.role}, {short(issued.node_id)}), until {_end(issued)}"


def _say_how_to_start(issued: IssuedCertificate, folder: Path, where: str = "") -> None:
    """Say what a new certificate in *folder* is for."""
    if issued.role == "node":
        typer.echo(f"Start the node{where} with: p2pfl node --certs {quoted(folder)}")
        typer.echo("It finds the others in its network; elsewhere, add --peers HOST:PORT,...")
    else:
        may = "watch and command" if issued.role == "operator" else "watch"
        typer.echo(
            f"It is for a person, to {may} a node from elsewhere: p2pfl tui HOST:PORT --certs "
            f"{quoted(folder)}"
        )


def _row(issued: IssuedCertificate, now: datetime) -> tuple[str, str, str, str]:
    """Return the line of `show` for one certificate."""
    from p2pfl.identity.lifetime import in_words

    expires = _day(issued.not_after)
    if now > issued.not_after:
        expires += " EXPIRED"
    elif now < issued.not_before:
        expires += f" NOT VALID BEFORE {_day(issued.not_before)}"
    elif issued.not_after - now < SOON:
        expires += f" in {in_words(issued.not_after - now)}"
    return issued.name, issued.role, expires, issued.node_id


def _end(issued: IssuedCertificate) -> str:
    """Return the last day of a certificate, with the time if it has a few days only."""
    from p2pfl.times import show_time

    is_short = issued.not_after - datetime.now(UTC) < SHORT_LIVED
    return show_time(issued.not_after) if is_short else _day(issued.not_after)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _certs_option(certs: Path) -> str:
    """Return what a suggested command needs to find *certs* again."""
    return "" if certs == Path("certs") else f" --certs {quoted(certs)}"
