"""`p2pfl doctor`: checks whether a node can run on this device, and says what to do about what is missing.

It changes nothing: it creates no data directory and no link, and a running federation does not notice it. The
command prints each finding at once, since a peer that does not answer takes a while.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.exit_codes import ExitCode

if TYPE_CHECKING:
    from p2pfl.doctor.finding import Finding
    from p2pfl.doctor.subject import Subject
    from p2pfl.doctor.table import Check


def doctor(
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="Folder made by 'p2pfl certs issue'.")
    ] = Path("certs"),
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="Which certificate of --certs to use.")
    ] = None,
    peers: Annotated[
        str,
        typer.Option(
            "--peers",
            metavar="A:PORT,B:PORT",
            help="Addresses of nodes that should be reachable (default: those that this device met before).",
        ),
    ] = "",
    listen: Annotated[
        str, typer.Option("--listen", metavar="[HOST:]PORT", help="Where the node is to listen.")
    ] = "9000",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="The node's data directory.")
    ] = None,
    task: Annotated[str, typer.Option("--task", metavar="T", help="The task to train.")] = "digits",
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Search for data sets in this folder only."),
    ] = None,
    no_mdns: Annotated[bool, typer.Option("--no-mdns", help="Do not try mDNS in the local network.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="A,B",
            help="Run only these checks, such as certificate,peers,way (default: all).",
            show_default=False,
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Also print commands that may help; nothing is run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """Check whether a node can run on this device, and say what is missing."""
    from p2pfl.doctor.subject import Subject
    from p2pfl.learning.data import DataPlaces
    from p2pfl.net.transport.addresses import parse_address, parse_listen
    from p2pfl.paths import full

    host, port = parse_listen(listen)
    subject = Subject(
        certs=certs,
        name=name,
        host=host,
        port=port,
        addresses=tuple(parse_address(part) for part in peers.split(",") if part.strip()),
        data_dir=data_dir,
        task=task,
        places=DataPlaces(data_root and full(data_root)),
        mdns=not no_mdns,
    )
    found = asyncio.run(_examine(subject, _names(only), silent=as_json))
    failures = sum(finding.level == "FAIL" for _, finding in found)
    if as_json:
        typer.echo(_as_json(found))
    else:
        _summarise([finding for _, finding in found], failures, fix=fix, is_whole=only is None)
    if failures:
        raise typer.Exit(ExitCode.FAILED)


def _names(only: str | None) -> frozenset[str]:
    """Return the names of checks in *only*; none: all checks.

    Raises:
        UserError: there is no check with one of these names.
    """
    from p2pfl.doctor.table import CHECKS
    from p2pfl.errors import UserError

    names = frozenset(only.split(",")) if only is not None else frozenset()
    known = [check.name for check in CHECKS]
    if unknown := sorted(names.difference(known)):
        raise UserError(f"--only names no check with {unknown[0]!r}; the checks are: {', '.join(known)}")
    return names


async def _examine(subject: Subject, only: frozenset[str], *, silent: bool) -> list[tuple[Check, Finding]]:
    from p2pfl.doctor.table import examine

    found = []
    async for check, finding in examine(subject, only):
        found.append((check, finding))
        if not silent:
            typer.echo(str(finding))
    return found


def _summarise(findings: list[Finding], failures: int, *, fix: bool, is_whole: bool) -> None:
    from p2pfl.doctor.finding import MARKS

    helpful = [one for one in findings if one.commands and (fix or one.level != "ok")]
    if fix:
        typer.echo("\nCommands that may help. Nothing was run: read them first.")
        for finding in helpful:
            typer.echo(f"\n# {finding.text}")
            for command in finding.commands:
                typer.echo(command)
        typer.echo("" if helpful else "(none)")
    elif helpful:
        typer.echo("Commands that may help: the same with --fix, which prints them and runs nothing.")
    if failures:
        typer.echo(f"{failures} of these to solve ({MARKS['FAIL']}); then run this again.")
    elif is_whole:
        typer.echo("A node can run here.")
    else:
        typer.echo(
            "Nothing to solve in these checks." if findings else "These checks had nothing to look at."
        )


def _as_json(found: list[tuple[Check, Finding]]) -> str:
    import msgspec

    values = [
        {
            "check": check.name,
            "state": finding.level.lower(),
            "text": finding.text,
            "advice": finding.advice,
            "commands": finding.commands,
        }
        for check, finding in found
    ]
    ok = all(finding.level != "FAIL" for _, finding in found)
    return msgspec.json.encode({"ok": ok, "findings": values}).decode()
