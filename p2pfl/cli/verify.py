"""The report of `p2pfl history --verify`: what was checked, how much, and each fault with what to do."""

from __future__ import annotations

from pathlib import Path

import typer

from p2pfl.exit_codes import ExitCode

MAX_FAULT = 600
"""Characters of a line: names in a damaged journal may be anything."""


def report(directories: list[Path]) -> None:
    """Check *directories* and print what was found; exit not 0 when something is wrong."""
    from p2pfl.store.verify import verify
    from p2pfl.wire.codec import bounded

    findings = verify(directories)
    for fault in findings.faults:
        typer.echo(f"✗ {bounded(str(fault), MAX_FAULT)}")
    typer.echo(
        f"Checked {_count(findings.directories, 'data directory', 'data directories')}: "
        f"{_count(findings.runs, 'run', 'runs')}, {_count(findings.records, 'record', 'records')} with their "
        f"quorums and votes, {_count(findings.blobs, 'model', 'models')} read from end to end."
    )
    if not findings.is_clean:
        typer.echo(f"{_count(len(findings.faults), 'fault', 'faults')} found, see above.")
        raise typer.Exit(ExitCode.FAILED)
    typer.echo("Nothing is wrong.")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
