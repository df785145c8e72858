"""`p2pfl node`: one device's part in a federation, from the command line to the exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from p2pfl import streams
from p2pfl.cli.options import NOTIFY_HELP, SCREEN_OPTIONS, THEME_HELP, WORDS, is_given
from p2pfl.cli.settings import (
    SETTINGS,
    ConfiguredCommand,
    misspelt_variables,
    source_of,
    sources_in_errors,
)
from p2pfl.cli.tui import has_screen

if TYPE_CHECKING:
    from p2pfl.exit_codes import ExitCode
    from p2pfl.runtime.node_config import NodeConfig
    from p2pfl.runtime.observing.publish import Sink

logger = logging.getLogger(__name__)

COMMAND_CLASS = ConfiguredCommand

DEVICE = "This device"
RUN = "The run (the options of one device hold for all, told before the start)"


def _device(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=DEVICE, show_default=False, **settings)


def _run(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=RUN, show_default=False, **settings)


def node(  # the command line is the list of its options
    context: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Arguments of the script of --script.")
    ] = None,
    config: Annotated[
        Path | None,
        _device(
            "--config",
            metavar="FILE",
            help="Take options from FILE (default: p2pfl.toml in this folder, if there is one).",
        ),
    ] = None,
    isolated: Annotated[
        bool,
        _device("--isolated", help="Take no options from p2pfl.toml and from variables P2PFL_*."),
    ] = False,
    peers: Annotated[
        str,
        _device(
            "--peers",
            metavar="A:PORT,B:PORT",
            help="Addresses of other nodes; one that can be reached is enough (default: those that this "
            "device met before, and those it finds in its network).",
        ),
    ] = "",
    no_mdns: Annotated[
        bool,
        _device("--no-mdns", help="Do not announce this node in the local network, nor look for others."),
    ] = False,
    interface: Annotated[
        list[str] | None,
        _device(
            "--interface",
            metavar="NAME",
            help="Announce and look on this network interface, such as eth0; may be repeated.",
        ),
    ] = None,
    name: Annotated[
        str | None, _device("--name", metavar="N", help="Which certificate of --certs to use.")
    ] = None,
    listen: Annotated[
        str,
        _device(
            "--listen",
            metavar="[HOST:]PORT",
            help="Where to listen (default: port 9000 on every interface).",
        ),
    ] = "9000",
    advertise: Annotated[
        str,
        _device(
            "--advertise",
            metavar="HOST:PORT,...",
            help="Addresses to send to peers, if they differ from --listen.",
        ),
    ] = "",
    certs: Annotated[
        Path,
        _device("--certs", metavar="DIR", help="Folder made by 'p2pfl certs issue' (default: certs)."),
    ] = Path("certs"),
    data_dir: Annotated[
        Path | None,
        _device("--data-dir", metavar="DIR", help="Where this node keeps its models and its journal."),
    ] = None,
    min_nodes: Annotated[
        int | None,
        _device(
            "--min-nodes",
            metavar="K",
            help="Number of nodes needed to start a run (default: the peers and this one; 1: alone).",
        ),
    ] = None,
    wait: Annotated[
        bool,
        _device("--wait", help="Start no run before Enter is pressed here or 'p2pfl start' is given."),
    ] = False,
    tui: Annotated[
        bool,
        _device("--tui", help="Run the node in the background and open the terminal UI on it."),
    ] = False,
    theme: Annotated[str | None, _device("--theme", metavar="NAME", help=f"With --tui: {THEME_HELP}")] = None,
    notify: Annotated[bool, _device("--notify", help=f"With --tui: {NOTIFY_HELP}")] = False,
    new_run: Annotated[bool, _device("--new-run", help="Leave the run in the data directory.")] = False,
    new_journal: Annotated[
        bool, _device("--new-journal", help="Join as a new member: for a copied or restored data directory.")
    ] = False,
    stay: Annotated[bool, _device("--stay", help="Keep serving after the end of the run.")] = False,
    leave_within: Annotated[
        float | None,
        _device(
            "--leave-within",
            metavar="SECONDS",
            help="Time to leave politely after SIGTERM or SIGHUP (default: 5).",
            min=0.0,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        _device(
            "--ca",
            metavar="DIR",
            help="Folder of the CA, to renew certificates (default: --certs or above, if ca.key is there).",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        _device(
            "--passphrase-file", metavar="FILE", help="A file whose first line is the passphrase of ca.key."
        ),
    ] = None,
    no_renew: Annotated[
        bool, _device("--no-renew", help="Renew no certificates, although ca.key is here.")
    ] = False,
    save_dir: Annotated[
        Path | None,
        _device("--save-dir", metavar="DIR", help="Where 'p2pfl save' puts models.", hidden=True),
    ] = None,
    until_eof: Annotated[
        bool, _device("--until-eof", help="End at once when standard input ends.", hidden=True)
    ] = False,
    continue_with: Annotated[
        str | None,
        _device(
            "--continue-with",
            metavar="ID,ID",
            help="Continue the run in the data directory with these nodes; given by 'p2pfl continue'.",
            hidden=True,
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
        _device("--data-root", metavar="DIR", help="Search for the task's data in this folder only."),
    ] = None,
    download: Annotated[
        bool, _device("--download", help="Download the task's data if they are not on this device.")
    ] = False,
    events: Annotated[
        Path | None, _device("--events", metavar="FILE", help="Append every event to FILE as JSON lines.")
    ] = None,
    pace: Annotated[
        float,
        _device(
            "--pace",
            metavar="SECONDS",
            help="Minimum duration of a training, so that a demo can be watched.",
            min=0.0,
            hidden=True,
        ),
    ] = 0.0,
    verbose: Annotated[
        int, _device("-v", "--verbose", help="Print more of the log; twice: all of it.", count=True)
    ] = 0,
    quiet: Annotated[bool, _device("-q", "--quiet", help="Print problems only.")] = False,
    data: Annotated[
        Path | None,
        _device(
            "--data",
            metavar="PATH",
            help="Own data: a folder with one folder of pictures a class, a table (.csv, .parquet), or what "
            "the task file reads.",
        ),
    ] = None,
    classes: Annotated[
        str,
        _device("--classes", metavar="A,B,...", help="The classes, where the data do not tell them."),
    ] = "",
    workers: Annotated[
        int,
        _device("--workers", metavar="N", min=0, help="Processes that load data which are not in memory."),
    ] = 0,
    task: Annotated[
        str | None,
        _run(
            "--task",
            metavar="T",
            help="digits (default), fashion-mnist, mnist, cifar10, or a Python file with model() and data().",
        ),
    ] = None,
    script: Annotated[
        Path | None,
        _device(
            "--script",
            metavar="FILE",
            help="Let the loop of this script train, with p2pfl.rounds; its arguments come after --.",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        _device(
            "--track",
            metavar="KIND:WHERE",
            help="Write each round's values to csv:FILE, tensorboard:DIR, mlflow:URI or wandb:PROJECT; "
            "may be repeated.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        _device(
            "--metrics",
            metavar="[HOST:]PORT",
            help="Serve metrics for Prometheus, and /healthz and /readyz (without HOST on this device only).",
        ),
    ] = None,
    target: Annotated[
        str | None, _run("--target", metavar="COLUMN", help="The column of the table to predict.")
    ] = None,
    target_kind: Annotated[
        str | None,
        _run(
            "--target-kind", metavar="class|number", help="What the target is (default: seen from the data)."
        ),
    ] = None,
    share: Annotated[
        str | None,
        _run(
            "--share",
            metavar="labels|counts|none",
            help="What devices tell about their data (default: labels, the counts of each class too).",
        ),
    ] = None,
    holdout: Annotated[
        float | None,
        _run("--holdout", metavar="X", help="Share of the own data that is evaluated on (default: 0.1)."),
    ] = None,
    image_size: Annotated[
        int | None,
        _run("--image-size", metavar="N", help="Edge of pictures in pixels (default: seen from the data)."),
    ] = None,
    augment: Annotated[bool, _run("--augment", help="Crop and flip training pictures at random.")] = False,
    model: Annotated[str | None, _run("--model", metavar="M", help="One of the task's models.")] = None,
    rounds: Annotated[
        int | None,
        _run("--rounds", metavar="R", help="Rounds of training; a higher number extends a finished run."),
    ] = None,
    epochs: Annotated[int | None, _run("--epochs", metavar="E", help="Local epochs in a round.")] = None,
    steps: Annotated[
        int | None, _run("--steps", metavar="N", help="Optimizer steps in a round, in place of epochs.")
    ] = None,
    until: Annotated[
        str | None,
        _run("--until", metavar="METRIC=X", help="End when a metric reaches X, such as accuracy=0.95."),
    ] = None,
    patience: Annotated[
        int | None,
        _run("--patience", metavar="R", help="End after R rounds without a better primary metric."),
    ] = None,
    optimizer: Annotated[
        str | None, _run("--optimizer", metavar="sgd|adam|adamw", help="Local optimizer (default: sgd).")
    ] = None,
    schedule: Annotated[
        str | None,
        _run(
            "--schedule",
            metavar="none|cosine|step",
            help="How the learning rate changes over the rounds (default: none).",
        ),
    ] = None,
    clip: Annotated[
        float | None, _run("--clip", metavar="X", help="Largest norm of the gradient (default: unlimited).")
    ] = None,
    precision: Annotated[
        str | None,
        _run("--precision", metavar="full|mixed", help="Precision of training (default: full)."),
    ] = None,
    class_weights: Annotated[
        bool, _run("--class-weights", help="Weigh rare classes more in the loss.")
    ] = False,
    deadline: Annotated[
        float | None,
        _run(
            "--deadline",
            metavar="SECONDS",
            help="Cut a training after this time, and count the steps it took (default: never).",
        ),
    ] = None,
    batch_size: Annotated[int | None, _run("--batch-size", metavar="B", help="Local batch size.")] = None,
    lr: Annotated[
        float | None, _run("--lr", metavar="X", help="Learning rate of the local optimizer.")
    ] = None,
    momentum: Annotated[float | None, _run("--momentum", metavar="X", help="Momentum of local SGD.")] = None,
    weight_decay: Annotated[
        float | None, _run("--weight-decay", metavar="X", help="Weight decay of local SGD.")
    ] = None,
    partition: Annotated[
        str | None,
        _run(
            "--partition",
            metavar="P",
            help="How data are divided: iid, dirichlet:ALPHA, shards:K, labels:K or quantity:ALPHA.",
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        _run("--partitions", metavar="N", help="Number of data parts (default: one per founding member)."),
    ] = None,
    strategy: Annotated[
        str | None,
        _run(
            "--strategy",
            metavar="NAME",
            help="How updates become the next model (default: fedavg; 'p2pfl strategies' lists all), or a "
            "class of your own: FILE.py:CLASS.",
        ),
    ] = None,
    strategy_arg: Annotated[
        list[str] | None,
        _run("--strategy-arg", metavar="KEY=VALUE", help="An argument of the strategy; may be repeated."),
    ] = None,
    sample: Annotated[
        int | None,
        _run("--sample", metavar="M", help="Number of members that train in a round (default: all)."),
    ] = None,
    fraction: Annotated[
        float | None,
        _run("--fraction", metavar="C", help="Fraction of the members that train in a round, from 0 to 1."),
    ] = None,
    sample_by: Annotated[
        str | None,
        _run(
            "--sample-by",
            metavar="uniform|examples",
            help="How members are drawn: alike (default), or in proportion to their examples.",
        ),
    ] = None,
    min_updates: Annotated[
        int | None,
        _run(
            "--min-updates",
            metavar="K",
            help="Number of updates that is enough after the straggler deadline (default: 1).",
        ),
    ] = None,
    round_cap: Annotated[
        float | None,
        _run("--round-cap", metavar="SECONDS", help="Longest duration of a round (default: 900)."),
    ] = None,
    drop_after: Annotated[
        float | None,
        _run(
            "--drop-after",
            metavar="SECONDS",
            help="Absence after which a member is dropped (default: 60).",
        ),
    ] = None,
    personal: Annotated[
        list[str] | None,
        _run(
            "--personal",
            metavar="PATTERN",
            help="Tensors that stay on each device, such as 'head.*'; may be repeated.",
        ),
    ] = None,
    personalise: Annotated[
        int | None,
        _run(
            "--personalise",
            metavar="EPOCHS",
            help="Evaluate the model also after EPOCHS epochs on the device's own data (default: 0).",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        _run(
            "--lora",
            metavar="rank=R,alpha=A",
            help="Train low-rank adapters in place of the model (default: rank=8,alpha=16).",
        ),
    ] = None,
    lora_target: Annotated[
        list[str] | None,
        _run(
            "--lora-target",
            metavar="PATTERN",
            help="The linear layers that get adapters, such as 'attn.*'; may be repeated.",
        ),
    ] = None,
    lora_train: Annotated[
        list[str] | None,
        _run(
            "--lora-train",
            metavar="PATTERN",
            help="Parameters that train beside the adapters, such as 'head.*'; may be repeated.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        _run("--seed", metavar="N", help="Seed of the initial model and the partition (default: 1)."),
    ] = None,
) -> None:
    """Train with the federation: find peers, agree on a run, train, elect, aggregate, commit."""
    values = locals()
    import msgspec

    from p2pfl.learning.choice import LISTENING
    from p2pfl.learning.scripts.frames import TOKEN_VARIABLE
    from p2pfl.runtime.configure import NodeOptions, configure
    from p2pfl.runtime.observing.system_info import process_start

    options = {name: values[name] for name in NodeOptions.__annotations__ if is_given(context, name)}
    token = os.environ.pop(TOKEN_VARIABLE, "") if script == LISTENING else ""
    with sources_in_errors(context):
        settled = configure(cast("NodeOptions", options), token=token)
    _check_screen(context)
    if tui and has_screen():
        from p2pfl.cli.background import run_in_background

        screen = [f"--theme={theme}"] if theme is not None else []
        screen += ["--notify"] if notify else []
        raise typer.Exit(run_in_background(context.meta[WORDS], settled.data_dir, screen))
    settled = msgspec.structs.replace(
        settled, owns_process=True, until_eof=until_eof, recorded=events is not None
    )
    notes = _notes(context)
    output = Output(events, verbose, quiet=quiet, words=context.meta[WORDS])
    # `p2pfl join --start` passes the time at which its user had answered everything.
    started = context.obj if isinstance(context.obj, float) else process_start()
    raise typer.Exit(_run_on_console(settled, output, notes, started))


def _check_screen(context: typer.Context) -> None:
    """Refuse options of the terminal UI on the command line where it is not opened."""
    from p2pfl.errors import UserError

    for name in SCREEN_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and not context.params["tui"]:
            raise UserError(f"--{name} is for the terminal UI: give --tui too, or leave --{name} out")


class Output:
    """What the node writes, besides its data directory."""

    def __init__(self, events: Path | None, verbose: int, *, quiet: bool, words: Sequence[str]) -> None:
        """Write events to *events* as well; *words* are the command line, which `reload` reads again."""
        self.events = events
        self.is_quiet = quiet
        self.verbosity = _verbosity(verbose, quiet=quiet)
        self._words = tuple(words)

    def reload(self) -> None:
        """Take the level of the log from the file of options, which may have changed."""
        from p2pfl.cli.settings import node_context
        from p2pfl.errors import UserError
        from p2pfl.runtime.logs import set_verbosity

        try:
            given = node_context(self._words).params
        except UserError as error:
            logger.warning("the level of the log stays as it is: %s", error)
            return
        self.verbosity = _verbosity(given["verbose"], quiet=given["quiet"])
        set_verbosity(self.verbosity)


def _verbosity(verbose: int, *, quiet: bool) -> int:
    return -1 if quiet else verbose


def _run_on_console(config: NodeConfig, output: Output, notes: Sequence[str], started: float) -> ExitCode:
    """Run the node, its events on the terminal and in *output*; print the table of rounds at the end.

    *notes* are printed before.
    """
    from p2pfl.cli.console import Console
    from p2pfl.cli.service_notices import tell_service_manager
    from p2pfl.learning.scripts.child import script_logger
    from p2pfl.net.transport import tasks
    from p2pfl.runtime.logs import set_up_logging
    from p2pfl.runtime.observing.publish import EventFile
    from p2pfl.runtime.start import start_node
    from p2pfl.store.directory import DataDirectory

    directory = DataDirectory(config.data_dir)
    directory.check()
    os.umask(0o077)  # models, logs and events are for this user, also those that the worker writes
    set_up_logging(output.verbosity, directory.logs_path)
    streams.go_on()
    console = Console(sys.stdout, quiet=output.is_quiet)
    for note in notes:
        console.show(note)
    script_output = _ScriptOutput(console.show)
    script_logger.addHandler(script_output)
    file = EventFile(str(output.events)) if output.events is not None else None
    try:
        sinks: tuple[Sink, ...] = (console.write, tell_service_manager)
        sinks += () if file is None else (file.write,)
        code = tasks.run(start_node(config, sinks, started, reload_log_level=output.reload))
    finally:
        script_logger.removeHandler(script_output)
        console.close()
        if file is not None:
            file.close()
    if not output.is_quiet:
        _print_rounds(config.data_dir)
    return code


def _notes(context: typer.Context) -> list[str]:
    """Return what a user should know of options that were not given on the command line."""
    file: dict[str, list[str]] = {}
    variables = []
    for name, setting in context.meta[SETTINGS].items():
        if source_of(context, name) != setting.source:
            continue
        if setting.source.startswith("environment"):
            variables.append(name.replace("_", "-"))
        else:
            file.setdefault(setting.source.rpartition(":")[0], []).append(name.replace("_", "-"))
    notes = [f"options from {path}: {', '.join(names)}" for path, names in file.items()]
    if variables:
        notes.append(f"options from the environment: {', '.join(variables)}")
    misspelt = {} if context.params["isolated"] else misspelt_variables(context.command)
    return notes + [
        f"! the variable {wrong} is no option and is ignored: did you mean {right}?"
        for wrong, right in misspelt.items()
    ]


class _ScriptOutput(logging.Handler):
    """Shows the lines that the user's script prints."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        self._show(record.getMessage())


def _print_rounds(data_dir: Path) -> None:
    """Print the table `p2pfl history` shows; a node that was never in a run has none."""
    from p2pfl.cli.history import show
    from p2pfl.errors import UserError

    with contextlib.suppress(UserError):
        show(data_dir)
