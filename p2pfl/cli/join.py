"""`p2pfl join`: makes this device a member of a federation, with the code that the inviting device shows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.paths import quoted

if TYPE_CHECKING:
    from p2pfl.enrolment.joiner import Joined
    from p2pfl.enrolment.joining_folder import JoiningFolder
    from p2pfl.net.transport.addresses import Address

SKEW_SECONDS = 60.0
"""Difference of two clocks that is worth a word."""


def join(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST[:PORT]] [CODE]",
            help="What the inviting device shows: its address, and the words of its code.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="N",
            help="How this device is called (default: its host name).",
            show_default=False,
        ),
    ] = None,
    certs: Annotated[
        Path, typer.Option("--certs", metavar="DIR", help="Where to make the device's folder, DIR/N.")
    ] = Path("certs"),
    start: Annotated[
        bool,
        typer.Option("--start", help="Go straight on to 'p2pfl node', which may have the options below."),
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="[HOST:]PORT", help="As of 'p2pfl node'.", show_default=False),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="As of 'p2pfl node'.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="As of 'p2pfl node'.", show_default=False)
    ] = None,
) -> None:
    """Join a federation with the code that an inviting device shows."""
    from p2pfl.enrolment.device_names import host_device_name
    from p2pfl.enrolment.joining_folder import JoiningFolder
    from p2pfl.errors import UserError
    from p2pfl.net.transport import tasks

    options = {"--listen": listen, "--data-dir": data_dir, "--data": data}
    given = [f"{option}={value}" for option, value in options.items() if value is not None]
    if given and not start:
        raise UserError(
            f"{given[0].partition('=')[0]} is for the node: give it with --start, or to `p2pfl node`."
        )
    address, code = _read_words(words or [])
    folder = JoiningFolder(certs, name or host_device_name())
    if address is None:
        address = _find()
    code = code or _ask_code()
    joined, place = tasks.run(_join(address, code, folder))
    _say_joined(joined, place, folder.wished, is_started=start)
    if start:
        from p2pfl.cli import load

        words = [f"--certs={place}", *given]
        code = load("node").main(words, "p2pfl node", standalone_mode=False, obj=time.time())
        raise typer.Exit(code or 0)


def _read_words(words: list[str]) -> tuple[Address | None, str]:
    """Return the address and the code in the arguments; None and "" for those that are not there.

    Raises:
        UserError: one of them is neither.
    """
    from p2pfl.enrolment.channel import DEFAULT_INVITATION_PORT
    from p2pfl.enrolment.words import is_code, parse_code
    from p2pfl.net.transport.addresses import parse_address

    if not words:
        return None, ""
    text = " ".join(words)
    if is_code(text):
        return None, parse_code(text)
    rest = " ".join(words[1:])
    return parse_address(words[0], DEFAULT_INVITATION_PORT), parse_code(rest) if rest else ""


def _find() -> Address:
    """Return the address of the inviter in this network; with several, of the one that the person chooses.

    Raises:
        UserError: there is none, or there are several and no terminal.
    """
    from p2pfl.cli.keyboard import has_terminal
    from p2pfl.enrolment.finding import ADVICE, find_inviters
    from p2pfl.errors import UserError
    from p2pfl.net.transport import tasks

    typer.echo("Looking for an inviting device in this network ...", err=True)
    found = tasks.run(find_inviters())
    if not found:
        raise UserError(
            "No inviting device was found in this network: run `p2pfl invite` there first. Where the network "
            f"blocks multicast, {ADVICE}."
        )
    for number, one in enumerate(found, 1):
        which = f"{number}. " if len(found) > 1 else ""
        typer.echo(f"{which}{one.name} invites to {one.federation!r}, at {one.address}.", err=True)
    if len(found) == 1:
        return found[0].address
    if not has_terminal():
        raise UserError("Several devices invite: give the address of the one you mean, as listed above.")
    answer: str = typer.prompt(f"Which one (1 to {len(found)})", err=True)
    if not answer.strip().isdigit() or not 1 <= int(answer) <= len(found):
        raise UserError(f"{answer[:20]!r} is none of them: give a number from 1 to {len(found)}.")
    return found[int(answer) - 1].address


def _ask_code() -> str:
    """Ask for the code on the terminal.

    Raises:
        UserError: there is no terminal, or what was typed is no code.
    """
    from p2pfl.cli.keyboard import has_terminal
    from p2pfl.enrolment.words import parse_code
    from p2pfl.errors import UserError

    if not has_terminal():
        raise UserError(
            "The code is missing: give the words that the inviting device shows after its address."
        )
    return parse_code(typer.prompt("Code", err=True))


async def _join(address: Address, code: str, folder: JoiningFolder) -> tuple[Joined, Path]:
    """Join; leave no file behind unless this device was let in."""
    from p2pfl.enrolment.joiner import JoinQuery, join
    from p2pfl.errors import ReplyLostError, UserError
    from p2pfl.identity.keys import node_id_of, short

    def say(line: str) -> None:
        typer.echo(line, err=True)

    places: list[Path] = []
    key = folder.key()
    say(f"Joining at {address} as {folder.wished} ({short(node_id_of(key.public_key()))}).")
    query = JoinQuery(address, code, folder.wished, key)
    try:
        joined = await join(query, lambda joined: places.append(folder.keep(joined)), say)
    except ReplyLostError as error:
        raise ReplyLostError(
            f"{error} This device may have been let in: run the same command again, and it gets its "
            "certificate."
        ) from error
    except UserError:  # the disk: what was got must not be lost
        raise
    except BaseException:
        folder.discard()
        raise
    return joined, places[0]


def _say_joined(joined: Joined, place: Path, wished: str, *, is_started: bool) -> None:
    """Print what this device has become, and what to type next, or later if its node *is_started* now."""
    other = "" if joined.name == wished else f" (the name {wished} is taken there)"
    typer.echo(f"Joined the federation {joined.federation!r} as {joined.name}{other}: {place}")
    if abs(joined.skew) > SKEW_SECONDS:
        way = "ahead of" if joined.skew > 0 else "behind"
        typer.echo(
            f"This device's clock is {abs(joined.skew) / 60:.0f} minutes {way} the inviting device's: set "
            "it right.",
            err=True,
        )
    if joined.role == "node":
        typer.echo(
            f"{'Its node starts now; later' if is_started else 'Next'}: p2pfl node --certs {quoted(place)}"
        )
    else:
        typer.echo(f"Next: p2pfl tui HOST:PORT --certs {quoted(place)}")
