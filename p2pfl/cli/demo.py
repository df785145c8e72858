"""`p2pfl demo`: a whole federation on one machine, made of real node processes (`p2pfl.demo`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli.options import is_given
from p2pfl.cli.tui import has_screen

MAX_NODES = 32
"""Each loads torch: 32 need about 16 GB."""

SHOWN_PACE = 3.0
"""Default minimum duration of a training in seconds with the terminal UI: shorter ones cannot be followed."""


SPEC_NAMES = {"lr": "learning_rate"}
"""Fields of a run whose options have shorter names."""


def demo(
    context: typer.Context,
    nodes: Annotated[
        int, typer.Option("--nodes", metavar="N", min=2, max=MAX_NODES, help="Number of nodes.")
    ] = 4,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="R",
            min=1,
            help="Rounds to train.  [default: the task's, 10; with the terminal UI until you have killed and "
            "started a node]",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="T",
            help="What to train: digits, fashion-mnist, mnist, cifar10, or a Python file.  [default: digits]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="One of the task's models.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="E", help="Local epochs in a round.", show_default=False),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", metavar="X", help="Learning rate of the local optimizer.", show_default=False),
    ] = None,
    partition: Annotated[
        str,
        typer.Option(
            "--partition",
            metavar="P",
            help="How data are divided: iid, dirichlet:ALPHA, shards:K, labels:K or quantity:ALPHA.",
        ),
    ] = "dirichlet:0.5",
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="How updates become the next model: one of 'p2pfl strategies', or FILE.py:CLASS.  "
            "[default: fedavg]",
            show_default=False,
        ),
    ] = None,
    strategy_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy-arg",
            metavar="KEY=VALUE",
            help="An argument of the strategy; may be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the initial model and the partition.")
    ] = 1,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="DIR",
            help="Search for the task's data in this folder only.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the task's data if they are not on this device.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Keep certificates, data directories and events in this folder; otherwise all is removed.",
            show_default=False,
        ),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(
            "--pace",
            metavar="SECONDS",
            min=0.0,
            help="Minimum duration of a training, so that it can be watched.  "
            "[default: 3 with the terminal UI, else 0]",
            show_default=False,
        ),
    ] = None,
    kill_at: Annotated[
        int | None,
        typer.Option(
            "--kill-at",
            metavar="ROUND",
            min=1,
            help="Kill the last node in this round, and start it again after the next commit.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="Write what happens to FILE, for 'p2pfl tui --replay FILE'.",
            show_default=False,
        ),
    ] = None,
    no_tui: Annotated[
        bool, typer.Option("--no-tui", help="Print lines instead of opening the terminal UI.")
    ] = False,
) -> None:
    """Run a federation on this machine and compare its model with models trained alone."""
    import asyncio
    import logging

    from rich.console import Console

    from p2pfl.demo import run
    from p2pfl.demo.director import ENDLESS_ROUNDS, Plan
    from p2pfl.demo.folder import folder_for, save_place
    from p2pfl.demo.record import check_place
    from p2pfl.demo.screen import Screen
    from p2pfl.errors import UserError
    from p2pfl.learning import catalogue
    from p2pfl.learning.choice import choose, make_spec
    from p2pfl.learning.data import DataPlaces
    from p2pfl.learning.strategy_choice import choose_strategy
    from p2pfl.paths import full, shown
    from p2pfl.spec import ScriptTask

    record = record and check_place(record)
    is_shown = not no_tui and has_screen()
    is_endless = is_shown and rounds is None and kill_at is None
    named = {"task": task, "model": model, "rounds": rounds, "epochs": epochs, "lr": lr}
    named |= {"partition": partition, "seed": seed}
    given = {key: value for key, value in named.items() if is_given(context, key)}
    chosen = choose_strategy(strategy, strategy_arg or ())
    choice = choose(task, None, DataPlaces(data_root and full(data_root), download, strategy=chosen.code))
    if choice.kind == "file":
        given["partition"] = partition  # all nodes have the same data
    if is_endless:
        given["rounds"] = ENDLESS_ROUNDS
    values = {SPEC_NAMES.get(key, key): value for key, value in given.items()}
    spec = make_spec(choice, values | dict(chosen.options))  # says now, once, what every node would say
    places = choice.places
    if data_root is not None and choice.name not in catalogue.tasks_with_files():
        raise UserError(
            f"the task {choice.name!r} does not look into --data-root, since it has no data set of files: "
            f"name the task whose data lie in {shown(data_root)} with --task "
            f"({', '.join(catalogue.tasks_with_files())}), or leave --data-root out"
        )
    if choice.kind == "builtin" and not download:
        catalogue.find_data(choice.name, places)
    if places.code:
        given["task"] = places.code
    options = [f"--{key}={value}" for key, value in given.items()]
    if strategy is not None:
        options.append(f"--strategy={chosen.code or strategy}")
        options += [f"--strategy-arg={argument}" for argument in strategy_arg or ()]
    if places.root is not None:
        options.append(f"--data-root={places.root}")
    if kill_at is not None and kill_at > spec.rounds:
        raise UserError(
            f"--kill-at {kill_at} is after the last round, {spec.rounds}: give a smaller one, or --rounds"
        )
    if pace is None:
        pace = SHOWN_PACE if is_shown else 0.0
    if pace:
        options.append(f"--pace={pace:g}")
    if directory is None:
        options.append(f"--save-dir={save_place()}")
    if is_shown:
        # A logger without any handler prints warnings, and would over the terminal UI.
        logging.getLogger("p2pfl").addHandler(logging.NullHandler())
    screen = Screen(Console(highlight=False), is_live=not no_tui)
    with folder_for(directory) as folder:
        run.prepare(folder, nodes)
        plan = Plan(run.names_of(nodes), pace, is_endless, kill_at, not isinstance(spec.task, ScriptTask))
        setting = run.DemoSettings(
            nodes, tuple(options), folder, directory is not None, spec, places, is_shown, plan, record
        )
        code = asyncio.run(run.perform(setting, screen))
    raise typer.Exit(code)
