"""`p2pfl kick`, `ban`, `unban` and `bans`: who is kept out of the federation.

A command signs a statement with the key of an operator's certificate, or with the CA's, and hands it to one
node. That node needs no trust: every member checks the signature itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.certs import PassphraseFile
from p2pfl.cli.options import (
    WHICH,
    AddressArgument,
    DataDirOption,
    NameOption,
    NodeOption,
    find_node,
)
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.text import one_line

if TYPE_CHECKING:
    from p2pfl.identity.signatories import Signing
    from p2pfl.observe.target import Target
    from p2pfl.statements import What
    from p2pfl.wire.observing import CommandResult, MembershipReport

SHORT = 7
"""Characters of a node id that people see."""

MIN_ID = 4
"""Characters of a node id that name a node at least: fewer are more likely a typing error."""

SubjectArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="The node: its name, or the beginning of its node id.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; every member sees and remembers it.")
]
SignerOption = Annotated[
    Path | None,
    typer.Option(
        "--certs",
        metavar="DIR",
        help="Who signs: the folder of an operator's certificate, or that of the CA (default: certs).",
        rich_help_panel=WHICH,
    ),
]
ReadersOption = Annotated[
    Path | None,
    typer.Option(
        "--certs",
        metavar="DIR",
        help="A certificate for HOST:PORT; without it, the device's folder to read while no node runs.",
        rich_help_panel=WHICH,
    ),
]


def kick(
    subject: SubjectArgument,
    address: AddressArgument = None,
    reason: ReasonOption = "",
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: SignerOption = None,
    name: NameOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Remove a member from the run; it may come back when it is started again."""
    signing = _signing(certs, name, passphrase_file)
    _state("kick", subject, reason, signing, _target(address, data_dir, node, certs, name))


def ban(
    subject: SubjectArgument,
    address: AddressArgument = None,
    reason: ReasonOption = "",
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: SignerOption = None,
    name: NameOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Keep a node out of the federation, under its present key, until the ban is lifted."""
    signing = _signing(certs, name, passphrase_file)
    _state("ban", subject, reason, signing, _target(address, data_dir, node, certs, name))


def unban(
    subject: SubjectArgument,
    address: AddressArgument = None,
    reason: ReasonOption = "",
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: SignerOption = None,
    name: NameOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Lift the ban of a node."""
    signing = _signing(certs, name, passphrase_file)
    _state("unban", subject, reason, signing, _target(address, data_dir, node, certs, name))


def bans(
    address: AddressArgument = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
    data_dir: DataDirOption = None,
    node: NodeOption = None,
    certs: ReadersOption = None,
    name: NameOption = None,
) -> None:
    """List who is kept out of the federation: why, by whom, and since when."""
    import asyncio

    import msgspec

    if address is None and certs is not None:
        if data_dir is not None or node is not None:
            raise UserError("--certs names a folder to read, --data-dir and --node a running node: give one")
        report = _read(certs, name)
    else:
        report = asyncio.run(_ask(find_node(address, data_dir, node, certs, name)))
    if json:
        kept = {
            "bans": report.bans,
            "revocation_list": report.revocations,
            "revoked": report.revoked,
        }
        fields = ("node", "name", "by", "reason", "at")
        rows = [dict(zip(fields, msgspec.structs.astuple(one), strict=True)) for one in report.bans]
        typer.echo(msgspec.json.encode(kept | {"bans": rows}))
        return
    for line in _lines(report):
        typer.echo(line)


def _target(
    address: str | None, data_dir: Path | None, node: str | None, certs: Path | None, name: str | None
) -> Target:
    """Return the node to which the statement is handed; *certs* and *name* also say who signs."""
    is_remote = address is not None
    return find_node(address, data_dir, node, certs if is_remote else None, name if is_remote else None)


def _state(what: What, subject: str, reason: str, signing: Signing, target: Target) -> None:
    """Sign a statement about the node that *subject* names, and hand it to the node at *target*.

    Raises:
        UserError: no node has that name, or several have; the certificate may not sign; *reason* is too long.
        NetworkError: the node at *target* cannot be reached, or refuses.
    """
    import asyncio

    if len(reason) > 300 or not (reason.isprintable() or not reason):
        raise UserError(
            f"the reason must be one printable line of at most 300 characters; this one has {len(reason)}"
        )
    answer = asyncio.run(_hand_in(what, subject, reason, signing, target))
    if answer.refused:
        typer.echo(f"refused: {one_line(answer.refused, 400)}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"done: {one_line(answer.text, 400)}, as {one_line(signing.name, 80)} says")


def _signing(certs: Path | None, name: str | None, passphrase_file: Path | None) -> Signing:
    """Return what signs, in the folder *certs* or `certs`; without a folder that can, say what is needed.

    Raises:
        CredentialsError: the certificate there may not sign, or cannot be used.
    """
    from p2pfl.cli.passphrases import with_passphrase
    from p2pfl.errors import CredentialsError
    from p2pfl.identity.signatories import load_signing

    folder = certs or Path("certs")
    try:
        return with_passphrase(passphrase_file, lambda entered: load_signing(folder, name, entered))
    except CredentialsError as error:
        if certs is not None or passphrase_file is not None:
            raise
        raise CredentialsError(
            "members cannot kick or ban each other: an operator decides. Give --certs with the folder of an "
            "operator's certificate (on the CA's machine: `p2pfl certs issue NAME --role operator`), or with "
            "that of the CA"
        ) from error


async def _hand_in(what: What, subject: str, reason: str, signing: Signing, target: Target) -> CommandResult:
    from p2pfl.observe.client import asking

    async with asking(target) as observer:
        report = await observer.membership()
        node, called, start = find_subject(report, subject, is_lifting=what == "unban")
        number = report.numbers.get(node, 0)
        incarnation = start if what == "kick" else 0
        statement = signing.sign(what, node, called, after=number, incarnation=incarnation, reason=reason)
        return await observer.state(statement)


async def _ask(target: Target) -> MembershipReport:
    from p2pfl.observe.client import asking

    async with asking(target) as observer:
        return await observer.membership()


def find_subject(report: MembershipReport, subject: str, *, is_lifting: bool) -> tuple[str, str, int]:
    """Return node id, name and last start of the node that *subject* names.

    With *is_lifting* only banned nodes are meant, otherwise all that are known. A whole node id names a node
    that nobody knows, too.

    Raises:
        UserError: none has that name, or several have; the message lists them.
    """
    banned = {one.node: (one.name, 0) for one in report.bans}
    known = {one.node: (one.name, one.incarnation) for one in report.nodes}
    candidates = banned if is_lifting else banned | known
    is_id = len(subject) >= MIN_ID
    found = [
        node
        for node, (name, _) in candidates.items()
        if name == subject or (is_id and node.startswith(subject))
    ]
    if len(found) == 1:
        return found[0], *candidates[found[0]]
    if not found and len(subject) == 52 and subject.isalnum() and subject.islower() and not is_lifting:
        return subject, subject[:SHORT], 0
    listed = ", ".join(
        f"{one_line(name, 64)} ({node[:SHORT]})"
        for node, (name, _) in candidates.items()
        if node in found or not found
    )
    if found:
        raise UserError(
            f"{subject!r} names {len(found)} nodes: {listed}. Give the beginning of the node id of one"
        )
    what = "banned node" if is_lifting else "node that is known there"
    raise UserError(
        f"no {what} has the name {one_line(subject, 64)!r}, or a node id that begins so; there are: "
        f"{listed or 'none'}"
    )


def _read(certs: Path, name: str | None) -> MembershipReport:
    """Return what is in a device's folder, as a running node would tell it."""
    from p2pfl.identity.credentials import read_credentials
    from p2pfl.identity.exclusions import Exclusions
    from p2pfl.wire.observing import HeldBan, MembershipReport

    exclusions = Exclusions(read_credentials(certs, name))
    if exclusions.remark:
        raise UserError(exclusions.remark)
    held = [
        HeldBan(node, one.statement.name, one.by.name, one.statement.reason, one.statement.at)
        for node, one in exclusions.book.bans().items()
    ]
    listed = exclusions.revocations
    return MembershipReport(0, (), {}, tuple(held), listed.number, tuple(sorted(listed.keys)))


def _lines(report: MembershipReport) -> list[str]:
    lines = []
    for one in sorted(report.bans, key=lambda one: one.at):
        when = datetime.fromtimestamp(one.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
        why = f": {one_line(one.reason, 300)}" if one.reason else ""
        lines.append(
            f"{one_line(one.name, 64)} ({one.node[:SHORT]})  banned {when} by {one_line(one.by, 80)}{why}"
        )
    names = {one.node: one.name for one in report.nodes} | {one.node: one.name for one in report.bans}
    for key in report.revoked:
        name = f"{one_line(names[key], 64)} ({key[:SHORT]})" if key in names else key
        lines.append(f"{name}  certificate revoked by the CA, in list {report.revocations}")
    return lines or ["nobody is kept out"]
