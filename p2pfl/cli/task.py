"""`p2pfl task`: writes a task file to begin with, and checks one on this device alone."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import p2pfl
from p2pfl.cli.options import is_given

TASK_OPTIONS = ("data", "classes", "workers", "device", "batch_size", "lr")
"""Options of a check that have no effect on a script or a strategy."""


class Kind(StrEnum):
    """The templates; each is a file in `p2pfl.learning.own.templates`."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    SEGMENTATION = "segmentation"
    TEXT = "text"
    SCRIPT = "script"
    STRATEGY = "strategy"


app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write a task file of your own to begin with, or check one on this device alone.",
)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as my_task.py.")],
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            help="What the task is; or script: a training loop of your own; or strategy: how updates are "
            "aggregated.",
        ),
    ] = Kind.CLASSIFICATION,
) -> None:
    """Write a short task file that runs as it is, to be changed."""
    from p2pfl.errors import UserError

    template = Path(p2pfl.__file__).parent / "learning" / "own" / "templates" / f"{kind.value}.py"
    if file.suffix != ".py":
        raise UserError(f"a task is a Python file, and {file} does not end in .py: choose another name")
    text = template.read_text(encoding="utf-8").replace("FILE", file.name)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists and is not overwritten: choose another name") from None
    typer.echo(f"Wrote {file} ({kind.value}). Next: `p2pfl task check {file}`, and then change it.")


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The task file, script or strategy, or package.module:object of a p2pfl.Task.",
        ),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Arguments of a script.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="The data of this device.")
    ] = None,
    classes: Annotated[
        str, typer.Option("--classes", metavar="A,B", help="The classes of all devices, in order.")
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Processes that load examples.")
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to train.")
    ] = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Local batch size.")
    ] = 32,
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="Learning rate.")] = 0.01,
    strategy_arg: Annotated[
        list[str] | None,
        typer.Option("--strategy-arg", metavar="KEY=VALUE", help="Argument of a strategy; repeatable."),
    ] = None,
) -> None:
    """Load data and model of a task, train and evaluate a little, and say what is wrong.

    A script runs for two rounds, without other devices. A strategy aggregates three rounds of the digits.
    """
    from p2pfl.cli.checking import (
        CHECK_STEPS,
        SCRIPT_ROUNDS,
        CheckReport,
        check_file,
        check_script,
        check_strategy,
    )
    from p2pfl.errors import UserError
    from p2pfl.learning.choice import choose, make_spec
    from p2pfl.learning.data import DataPlaces
    from p2pfl.learning.own.strategy_file import find_strategy
    from p2pfl.learning.process import WorkerSettings
    from p2pfl.paths import full

    report = CheckReport()
    strange = next((name for name in TASK_OPTIONS if is_given(context, name)), None)
    if strategy := find_strategy(file):
        if strange:
            raise UserError(f"--{strange.replace('_', '-')} has no effect on a strategy: leave it out")
        check_strategy(strategy, strategy_arg or (), report)
        typer.echo("Nothing is wrong.")
        return
    if strategy_arg:
        raise UserError(
            f"--strategy-arg {strategy_arg[0]} is for a strategy, and {file} has none; leave it out."
        )
    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    choice = choose(file, None, DataPlaces(own=data and full(data), classes=names, loader_workers=workers))
    if choice.kind == "script":
        if strange:
            raise UserError(
                f"--{strange.replace('_', '-')} has no effect on a script, whose own loop decides about it: "
                "give the script's arguments behind --."
            )
        words = (choice.places.code, *(arguments or ()))
        asyncio.run(check_script(make_spec(choice, {"rounds": SCRIPT_ROUNDS}), words, report))
    elif choice.kind != "file":
        raise UserError(f"{file} is no task file: its name must end in .py, or be package.module:object")
    elif arguments:
        raise UserError(f"{arguments[0]!r} is one word too many: only a script has arguments.")
    else:
        given = {"steps": CHECK_STEPS, "batch_size": batch_size, "learning_rate": lr, "seed": 0}
        settings = WorkerSettings(device=device, places=choice.places)
        asyncio.run(check_file(make_spec(choice, given), settings, report))
    typer.echo("Nothing else is wrong." if report.warnings else "Nothing is wrong.")
