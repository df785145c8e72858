"""`p2pfl node`: one device's part in a federation, from the command line to the exit code."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfl.cli import streams
from p2pfl.cli.grouped import WORDS
from p2pfl.cli.tui import has_screen

if TYPE_CHECKING:
    from p2pfl.exit_codes import ExitCode
    from p2pfl.messages import RunSpec
    from p2pfl.runtime.node import NodeConfig

DEVICE = "This device"
RUN = "The run (the founder's hold for everybody)"

DEFAULT_ROUND_CAP = 900.0
"""Seconds. A member's own prediction keeps it in the round long before; this bounds a stuck one."""

DEFAULT_LEAVE_WITHIN = 5.0
"""Seconds, see `p2pfl.runtime.leaving`."""

DEFAULT_DROP_AFTER = 60.0
"""Seconds. Long enough for a reboot or a walk to another access point."""


def _device(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002 - Typer's word
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=DEVICE, show_default=False)


def _run(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002 - Typer's word
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=RUN, show_default=False)


def node(  # the command line is the list of its options
    context: typer.Context,
    peers: Annotated[
        str,
        _device(
            "--peers", metavar="A:PORT,B:PORT", help="Addresses of other nodes; one that answers is enough."
        ),
    ] = "",
    name: Annotated[
        str | None, _device("--name", metavar="N", help="Which certificate of --certs to use.")
    ] = None,
    listen: Annotated[
        str,
        _device("--listen", metavar="[HOST:]PORT", help="Where to listen (default: port 9000 everywhere)."),
    ] = "9000",
    advertise: Annotated[
        str, _device("--advertise", metavar="HOST:PORT,...", help="Addresses to tell peers, if they differ.")
    ] = "",
    certs: Annotated[
        Path, _device("--certs", metavar="DIR", help="Folder made by 'p2pfl certs issue' (default: certs).")
    ] = Path("certs"),
    data_dir: Annotated[
        Path | None, _device("--data-dir", metavar="DIR", help="Where this node keeps models and journal.")
    ] = None,
    min_nodes: Annotated[
        int | None,
        _device(
            "--min-nodes",
            metavar="K",
            help="Nodes that must be there to start (default: the peers and this one).",
        ),
    ] = None,
    wait: Annotated[
        bool, _device("--wait", help="Hold the start until Enter is pressed here, or 'p2pfl start' gives it.")
    ] = False,
    tui: Annotated[
        bool,
        _device("--tui", help="Run it in the background, and show it on the terminal's whole screen."),
    ] = False,
    new_run: Annotated[
        bool, _device("--new-run", help="Turn away from the run in the data directory.")
    ] = False,
    new_journal: Annotated[
        bool, _device("--new-journal", help="Join as a new member: for a copied or restored data directory.")
    ] = False,
    stay: Annotated[bool, _device("--stay", help="Serve on after the end of the run.")] = False,
    leave_within: Annotated[
        float,
        typer.Option(
            "--leave-within",
            metavar="SECONDS",
            min=0.0,
            help="After SIGTERM or SIGHUP, leave politely for so long at most (default: 5).",
            rich_help_panel=DEVICE,
            show_default=False,
        ),
    ] = DEFAULT_LEAVE_WITHIN,
    save_dir: Annotated[
        Path | None,
        typer.Option("--save-dir", metavar="DIR", hidden=True, help="Where 'p2pfl save' puts models."),
    ] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", hidden=True, help="End at once when standard input ends.")
    ] = False,
    continue_with: Annotated[
        str | None,
        typer.Option(
            "--continue-with",
            metavar="ID,ID",
            hidden=True,
            help="Continue the run in the data directory with these nodes: what 'p2pfl continue' asks for.",
        ),
    ] = None,
    device: Annotated[
        str, _device("--device", metavar="auto|cpu|cuda|mps", help="Where to train (default: auto).")
    ] = "auto",
    threads: Annotated[
        int, _device("--threads", metavar="N", help="CPU threads of torch (default: torch's own choice).")
    ] = 0,
    data_root: Annotated[
        Path | None,
        _device("--data-root", metavar="DIR", help="The only folder to look for the task's data in."),
    ] = None,
    download: Annotated[
        bool, _device("--download", help="Download the task's data if they are not here.")
    ] = False,
    events: Annotated[
        Path | None, _device("--events", metavar="FILE", help="Append every event to FILE as JSON lines.")
    ] = None,
    pace: Annotated[
        float,
        typer.Option(
            "--pace",
            metavar="SECONDS",
            min=0.0,
            hidden=True,
            help="Minimum duration of a training, so that a demo can be watched.",
        ),
    ] = 0.0,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, rich_help_panel=DEVICE, help="Log more.")
    ] = 0,
    quiet: Annotated[bool, _device("-q", "--quiet", help="Print problems only.")] = False,
    task: Annotated[
        str,
        _run("--task", metavar="T", help="digits (default), fashion-mnist, mnist or cifar10."),
    ] = "digits",
    model: Annotated[str | None, _run("--model", metavar="M", help="One of the task's models.")] = None,
    rounds: Annotated[
        int | None, _run("--rounds", metavar="R", help="Rounds; a higher number extends a finished run.")
    ] = None,
    epochs: Annotated[int | None, _run("--epochs", metavar="E", help="Local epochs in a round.")] = None,
    batch_size: Annotated[int | None, _run("--batch-size", metavar="B", help="Local batch size.")] = None,
    learning_rate: Annotated[
        float | None, _run("--lr", metavar="X", help="Learning rate of local SGD.")
    ] = None,
    momentum: Annotated[float | None, _run("--momentum", metavar="X", help="Its momentum.")] = None,
    weight_decay: Annotated[
        float | None, _run("--weight-decay", metavar="X", help="Its weight decay.")
    ] = None,
    partition: Annotated[
        str | None,
        _run("--partition", metavar="P", help="How data are divided: iid, dirichlet:ALPHA or shards:K."),
    ] = None,
    partitions: Annotated[
        int, _run("--partitions", metavar="N", help="Into how many parts (default: one a founding member).")
    ] = 0,
    sample: Annotated[
        int, _run("--sample", metavar="M", help="Members that train in a round (default: all).")
    ] = 0,
    min_updates: Annotated[
        int,
        _run(
            "--min-updates",
            metavar="K",
            help="Updates that suffice after the straggler deadline (default: 1).",
        ),
    ] = 1,
    round_cap: Annotated[
        float,
        _run(
            "--round-cap", metavar="SECONDS", help="A round closes by then with what is there (default: 900)."
        ),
    ] = DEFAULT_ROUND_CAP,
    drop_after: Annotated[
        float,
        _run(
            "--drop-after", metavar="SECONDS", help="Absence after which a member is dropped (default: 60)."
        ),
    ] = DEFAULT_DROP_AFTER,
    seed: Annotated[
        int, _run("--seed", metavar="N", help="Of the initial model and the partition (default: 1).")
    ] = 1,
) -> None:
    """Train with the federation: find the peers, agree on a run, train, elect, average, commit."""
    values = {
        "model": model,
        "rounds": rounds,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "partition": partition,
        "partitions": partitions or None,
        "sample": sample or None,
        "min_updates": min_updates if min_updates != 1 else None,
        "round_cap": round_cap if round_cap != DEFAULT_ROUND_CAP else None,
        "drop_after": drop_after if drop_after != DEFAULT_DROP_AFTER else None,
        "seed": seed if seed != 1 else None,
        "task": task if task != "digits" else None,
    }
    given = {key: value for key, value in values.items() if value is not None}
    spec = make_spec(task, given)
    check_min_nodes(min_nodes)

    from p2pfl.identity.credentials import check_is_node, load_credentials
    from p2pfl.learning import catalogue
    from p2pfl.learning.data import DataPlaces
    from p2pfl.learning.process import WorkerSettings
    from p2pfl.net.addresses import parse_listen
    from p2pfl.paths import full
    from p2pfl.runtime.machine import process_start
    from p2pfl.runtime.node import NodeConfig
    from p2pfl.store.directory import default_data_dir

    places = DataPlaces(data_root and full(data_root), download)
    if not download:
        catalogue.find_data(task, places)  # says now what the worker would say when it has loaded torch
    credentials = load_credentials(certs, name)
    check_is_node(credentials)
    data_dir = data_dir or default_data_dir(credentials.name)
    if tui and has_screen():
        from p2pfl.cli.background import run_in_background

        raise typer.Exit(run_in_background(context.meta[WORDS], data_dir))
    config = NodeConfig(
        credentials=credentials,
        data_dir=data_dir,
        spec=spec,
        given=frozenset(given),
        peers=_listed(peers),
        listen=parse_listen(listen),
        advertise=_listed(advertise),
        partitions=partitions,
        min_nodes=min_nodes,
        wait=wait,
        new_run=new_run,
        new_journal=new_journal,
        stay=stay,
        leave_within=leave_within,
        save_dir=save_dir and full(save_dir),
        until_eof=until_eof,
        continue_with=frozenset(_listed(continue_with)) if continue_with is not None else None,
        recorded=events is not None,
        worker=WorkerSettings(device=device, threads=threads, places=places, pace=pace),
    )
    raise typer.Exit(_run_on_console(config, events, verbose, quiet=quiet, started=process_start()))


def check_min_nodes(min_nodes: int | None) -> None:
    """Refuse a number of nodes that no run can have.

    Raises:
        UserError: it is none.
    """
    from p2pfl.errors import UserError
    from p2pfl.messages import MAX_ROSTER

    if min_nodes is not None and not 1 <= min_nodes <= MAX_ROSTER:
        raise UserError(
            f"--min-nodes is {min_nodes}, and a run has 1 to {MAX_ROSTER} nodes: give how many must be there "
            "before it starts, this device included."
        )


def make_spec(task: str, given: dict[str, Any]) -> RunSpec:
    """Return the run's spec: the defaults of task and model, then what the operator named.

    Raises:
        UserError: a value out of its range; the message names the option.
        TaskError: the task, its model or the partition is unknown.
    """
    import msgspec

    from p2pfl.errors import UserError
    from p2pfl.learning import catalogue
    from p2pfl.messages import RunSpec

    defaults = msgspec.to_builtins(catalogue.find(task).defaults_for(given.get("model")))
    fixed = {
        "task": task,
        "partitions": 1,
        "strategy": "fedavg",
        "seed": 1,
        "sample": 0,
        "min_updates": 1,
        "round_cap": DEFAULT_ROUND_CAP,
        "drop_after": DEFAULT_DROP_AFTER,
    }
    try:
        spec = msgspec.convert({**fixed, **defaults, **given}, RunSpec)
    except msgspec.ValidationError as error:
        what, _, field = str(error).partition(" - at `$.")
        option = {"learning_rate": "lr"}.get(field.rstrip("`"), field.rstrip("`")).replace("_", "-")
        raise UserError(f"--{option} is out of range: {what[0].lower()}{what[1:]}.") from error
    catalogue.check(spec)
    return spec


def _run_on_console(
    config: NodeConfig, events: Path | None, verbose: int, *, quiet: bool, started: float
) -> ExitCode:
    """Run the node, its events on the terminal and in *events*; print the table of rounds at the end."""
    from p2pfl.cli.console import Console
    from p2pfl.cli.logs import set_up_logging
    from p2pfl.net import loop
    from p2pfl.runtime.node import run_node
    from p2pfl.runtime.publish import EventFile
    from p2pfl.store.directory import DataDirectory

    directory = DataDirectory(config.data_dir)
    directory.check()
    set_up_logging(-1 if quiet else verbose, directory.logs_path)
    streams.go_on()
    console = Console(sys.stdout, quiet=quiet)
    file = EventFile(str(events)) if events is not None else None
    try:
        sinks = (console.write,) if file is None else (console.write, file.write)
        code = loop.run(run_node(config, sinks, started))
    finally:
        console.close()
        if file is not None:
            file.close()
    if not quiet:
        _print_rounds(config.data_dir)
    return code


def _print_rounds(data_dir: Path) -> None:
    """Print the table `p2pfl history` shows; a node that was never in a run has none."""
    from p2pfl.cli.history import show
    from p2pfl.errors import UserError

    with contextlib.suppress(UserError):
        show(data_dir)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
