"""`p2pfl continue`: continues a run whose majority is lost for good, after asking the user.

The command starts `p2pfl node` on the data directory with one more option; all other options are those of
`p2pfl node`. The other nodes that are left keep running and follow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfl.messages import Member, RosterEntry
    from p2pfl.store.reader import RunRow

SHORT = 7
"""Number of characters shown of a run or node id, and the fewest that may be given to name a member."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("continue", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def continue_(
    context: typer.Context,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="The data directory of this device's node.")
    ],
    named: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="A,B",
            help="The other devices that are left, by name or node id (default: none).",
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Continue without a majority that is lost for good: a new run from the last model.

    Stop the node on one of the devices that are left and give this command there, with the options of
    'p2pfl node'; the nodes on the other devices keep running. It asks before it does anything.
    """
    from p2pfl.cli import load
    from p2pfl.errors import UserError

    run, roster, me = _read(data_dir)
    kept = _resolve(roster, me, named)
    _describe(run, roster, kept, me)
    if not yes:
        if not _is_terminal():
            raise UserError(
                "there is no terminal to ask at; read the above and add --yes if it is what you want"
            )
        typer.confirm("Continue without them?", abort=True)
    others = ",".join(sorted({entry.node for entry in kept} - {me.node}))
    words = [*context.args, "--data-dir", str(data_dir), f"--continue-with={others}"]
    raise typer.Exit(load("node").main(words, prog_name="p2pfl node", standalone_mode=False) or 0)


def _is_terminal() -> bool:
    """Whether there is a user to ask."""
    return sys.stdin.isatty()


def _read(data_dir: Path) -> tuple[RunRow, tuple[RosterEntry, ...], Member]:
    """Return the unfinished run in *data_dir*, the roster of its open round, and the directory's member."""
    from p2pfl.errors import UserError
    from p2pfl.store.directory import DataDirectory

    with DataDirectory(data_dir).read_journal() as journal:
        me, run = journal.identity(), next((row for row in reversed(journal.runs()) if not row.closed), None)
        commit = journal.last_commit(run.run) if run is not None else None
    if run is None or me is None or run.ended:
        state = "is complete" if run is not None and run.ended else "was never begun"
        raise UserError(f"the run in {data_dir} {state}: there is nothing to continue")
    if commit is None:
        raise UserError(
            f"nothing is committed in run {run.run[:SHORT]} yet: begin a new one with `p2pfl node --new-run`"
        )
    return run, commit.record.roster, me


def _resolve(roster: Sequence[RosterEntry], me: Member, named: str) -> tuple[RosterEntry, ...]:
    """Return this device and the devices *named* by their name or the first characters of their id."""
    from p2pfl.errors import UserError
    from p2pfl.text import one_line

    kept = {entry.node: entry for entry in roster if entry.node == me.node}
    for word in (part.strip() for part in named.split(",")):
        found = [
            entry
            for entry in roster
            if word and (entry.name == word or (len(word) >= SHORT and entry.node.startswith(word)))
        ]
        if word and len(found) != 1:
            known = ", ".join(f"{one_line(entry.name)} ({entry.node[:SHORT]})" for entry in roster)
            count = "no member" if not found else f"{len(found)} members"
            raise UserError(f"{count} of the run can be meant by {word!r}; its members are {known}")
        kept |= {entry.node: entry for entry in found}
    return tuple(kept.values())


def _describe(run: RunRow, roster: Sequence[RosterEntry], kept: Sequence[RosterEntry], me: Member) -> None:
    """Print what the command will do.

    Raises:
        UserError: the devices named are a majority: starting them is enough.
    """
    from p2pfl.errors import UserError
    from p2pfl.messages import quorum
    from p2pfl.spec import describe_run
    from p2pfl.text import one_line

    needed = quorum(len(roster))
    staying = ", ".join(entry.name + (" (this device)" if entry.node == me.node else "") for entry in kept)
    if len(kept) >= needed and any(entry.node == me.node for entry in kept):
        raise UserError(
            f"{one_line(staying)} are {len(kept)} of {len(roster)} members, {needed} needed: start them with "
            "`p2pfl node`, and the run goes on by itself"
        )
    out = ", ".join(entry.name for entry in roster if entry not in kept)
    gone = len(roster) - needed + 1
    typer.echo(
        f"Run {run.run[:SHORT]} ({one_line(describe_run(run.spec))}) has "
        f"{run.trained} of {run.rounds} rounds committed here.\n"
        f"Kept:     {one_line(staying or 'this device')}\n"
        f"Left out: {one_line(out)}\n"
        f"A new run begins from the model of round {run.trained}, or of a later one that a device kept has, "
        f"and the devices kept close run {run.run[:SHORT]} for good. Whatever those left out have committed "
        "beyond that is not part of it: they can join again, but only without it. Do this only when at least "
        f"{gone} of the {len(roster)} members will not come back; if a majority of them still trains "
        "somewhere, there will be two runs."
    )
