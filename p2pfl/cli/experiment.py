"""`p2pfl experiment`: simulates every combination of a file's settings, and compares them in a table.

The simulations are in a process of their own: this one imports no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from p2pfl.exit_codes import ExitCode

SUFFIX = ".toml"
"""End of the name of an experiment's file."""


class FileOrCommand(TyperGroup):
    """A group whose arguments may be those of `run`, without this word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before the arguments if they begin with no command: a file, or options and a file."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


app = typer.Typer(
    cls=FileOrCommand,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Simulate many clients: every combination of a file's settings, and a table of results.",
    epilog="`p2pfl experiment FILE` is short for `p2pfl experiment run FILE`.",
)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as compare.toml.")],
) -> None:
    """Write a short experiment with comments, which runs as it is."""
    import p2pfl
    from p2pfl.errors import UserError

    if file.suffix != SUFFIX:
        raise UserError(
            f"an experiment is a TOML file, and {file} does not end in .toml: choose another name"
        )
    text = (Path(p2pfl.__file__).parent / "experiment" / "template.toml").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text.replace("FILE", str(file)))
    except FileExistsError:
        raise UserError(f"{file} exists and is not overwritten: choose another name") from None
    typer.echo(f"Wrote {file}. Next: `p2pfl experiment {file}`, and then change it.")


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment, a TOML file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR", help="Folder of the results; by default FILE-results, without .toml."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Processes that train, in place of the file's."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="Train on this Ray cluster, in place of the file's engine; auto: the one that runs here.",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="KIND:WHERE",
            help="Also write rounds to csv:FILE, tensorboard:DIR, mlflow:URI or wandb:PROJECT; repeatable.",
        ),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Run nothing; show and write the results that are finished.")
    ] = False,
) -> None:
    """Run what is not finished of an experiment, then show and write its results."""
    from p2pfl.experiment.file import read_experiment
    from p2pfl.experiment.results import ResultFolder

    given = {"workers": workers, "ray_address": ray_address, "engine": ray_address and "ray"}
    plan = read_experiment(file, {name: value for name, value in given.items() if value})
    folder = ResultFolder(output if output is not None else file.with_name(f"{file.stem}-results"))
    raise typer.Exit(_run(plan, folder, track or [], is_table_only=table))


class Terminal:
    """Lines on standard output, and on a terminal a line below them that changes."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()

    def say(self, line: str, /) -> None:
        """Print *line*."""
        self.close()
        typer.echo(line)

    def show(self, text: str, /) -> None:
        """Show *text* until the next line, on a terminal only."""
        if self._is_live:
            import shutil

            sys.stderr.write(f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()

    def close(self) -> None:
        """Remove the line that changes."""
        if self._is_live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def _run(plan: Any, folder: Any, track: list[str], *, is_table_only: bool) -> ExitCode:
    from p2pfl.experiment.runner import summary_text, write_outputs

    if is_table_only:
        found = (folder.read(one) for one in plan.runs)
        finished = tuple(one for one in found if one is not None)
        typer.echo(summary_text(plan, finished))
        with folder.locked():
            for line in write_outputs(plan, folder, finished):
                typer.echo(line)
        return ExitCode.COMPLETE
    with folder.locked():
        return _run_all(plan, folder, track)


def _run_all(plan: Any, folder: Any, track: list[str]) -> ExitCode:
    from p2pfl.experiment.runner import ExperimentOutcome, ExperimentRunner, summary_text, write_outputs
    from p2pfl.learning.simulation.process import SimulationProcess

    screen, simulator = Terminal(), SimulationProcess()
    is_interrupted = False
    try:
        outcome = ExperimentRunner(plan, folder, screen, track=track).run(simulator)
    except KeyboardInterrupt:
        found = (folder.read(one) for one in plan.runs)
        outcome, is_interrupted = ExperimentOutcome(tuple(one for one in found if one is not None), ()), True
    finally:
        screen.close()
        simulator.close()
    typer.echo(summary_text(plan, outcome.finished))
    for line in write_outputs(plan, folder, outcome.finished):
        typer.echo(line)
    if others := folder.others(plan.runs):
        typer.echo(f"{others} runs of other settings are kept in {folder.folder}, and are not in the table")
    if is_interrupted:
        typer.echo("interrupted; the same command goes on, and begins the run that was interrupted anew")
        return ExitCode.INTERRUPTED
    for planned, reason in outcome.failed:
        typer.echo(f"failed: {planned.label}: {reason}", err=True)
    return ExitCode.FAILED if outcome.failed else ExitCode.COMPLETE
