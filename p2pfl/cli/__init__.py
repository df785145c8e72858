"""The command `p2pfl`: its subcommands, and how errors that reach the top are reported.

Only the module of the subcommand that is called is imported: `p2pfl --help` has the names and one line about
each from the table here, and `p2pfl certs` does not wait for the imports of a node.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from p2pfl import __version__, streams
from p2pfl.cli.options import GroupedCommand, PlainValues
from p2pfl.errors import ClonedError, P2pflError, UserError
from p2pfl.exit_codes import ExitCode


class Subcommand(NamedTuple):
    """The place of a subcommand's code, and its line in `p2pfl --help`."""

    module: str
    attribute: str
    """A function that becomes a command, or a Typer app with commands of its own."""
    help: str
    """The first line of that function's docstring, or the app's help: a test compares them."""


SUBCOMMANDS = {
    "node": Subcommand(
        "p2pfl.cli.node",
        "node",
        "Train with the federation: find peers, agree on a run, train, elect, aggregate, commit.",
    ),
    "tui": Subcommand(
        "p2pfl.cli.tui",
        "tui",
        "Open the terminal UI on a running node, or on a recording of one.",
    ),
    "demo": Subcommand(
        "p2pfl.cli.demo",
        "demo",
        "Run a federation on this machine and compare its model with models trained alone.",
    ),
    "config": Subcommand(
        "p2pfl.cli.config",
        "app",
        "Write, show or check the options of a node in p2pfl.toml and the environment.",
    ),
    "service": Subcommand(
        "p2pfl.cli.service",
        "app",
        "Run the node of this device as a service of systemd.",
    ),
    "task": Subcommand(
        "p2pfl.cli.task",
        "app",
        "Write a task file of your own to begin with, or check one on this device alone.",
    ),
    "strategies": Subcommand(
        "p2pfl.cli.strategies", "strategies", "List the strategies of --strategy with their arguments."
    ),
    "status": Subcommand(
        "p2pfl.cli.watching", "status", "Show what a running node and its federation are doing now."
    ),
    "watch": Subcommand(
        "p2pfl.cli.watching", "watch", "Print the events of a running node, line by line, until it ends."
    ),
    "start": Subcommand(
        "p2pfl.cli.orders", "start", "Start the run with the options of a waiting node; ends its --wait."
    ),
    "pause": Subcommand(
        "p2pfl.cli.orders", "pause", "Pause the run of the whole federation after the open round."
    ),
    "resume": Subcommand("p2pfl.cli.orders", "resume", "Resume a paused run."),
    "stop": Subcommand(
        "p2pfl.cli.orders", "stop", "End the run of the whole federation after the open round."
    ),
    "leave": Subcommand(
        "p2pfl.cli.orders", "leave", "Make a node leave politely: the others go on without it."
    ),
    "save": Subcommand(
        "p2pfl.cli.orders",
        "save",
        "Make a node save the last committed model to a file in its data directory.",
    ),
    "up": Subcommand(
        "p2pfl.cli.up",
        "app",
        "Make a federation on its first device: CA, certificate, invitation and node in one.",
    ),
    "invite": Subcommand(
        "p2pfl.cli.invite", "invite", "Let other devices join the federation with a few spoken words."
    ),
    "join": Subcommand(
        "p2pfl.cli.join", "join", "Join a federation with the code that an inviting device shows."
    ),
    "kick": Subcommand(
        "p2pfl.cli.bans", "kick", "Remove a member from the run; it may come back when it is started again."
    ),
    "ban": Subcommand(
        "p2pfl.cli.bans",
        "ban",
        "Keep a node out of the federation, under its present key, until the ban is lifted.",
    ),
    "unban": Subcommand("p2pfl.cli.bans", "unban", "Lift the ban of a node."),
    "bans": Subcommand(
        "p2pfl.cli.bans", "bans", "List who is kept out of the federation: why, by whom, and since when."
    ),
    "certs": Subcommand(
        "p2pfl.cli.certs",
        "app",
        "Create and show the certificates of a federation's devices.",
    ),
    "completion": Subcommand(
        "p2pfl.cli.completion",
        "completion",
        "Print what makes a shell complete commands, options and their values; or install it.",
    ),
    "peers": Subcommand(
        "p2pfl.cli.peers",
        "app",
        "List the nodes that this device has met, or forget one.",
    ),
    "doctor": Subcommand(
        "p2pfl.cli.doctor",
        "doctor",
        "Check whether a node can run on this device, and say what is missing.",
    ),
    "continue": Subcommand(
        "p2pfl.cli.continue_",
        "app",
        "Continue without a majority that is lost for good: a new run from the last model.",
    ),
    "history": Subcommand(
        "p2pfl.cli.history",
        "history",
        "Show the committed training rounds of a run, or verify the data directories.",
    ),
    "export": Subcommand(
        "p2pfl.cli.history",
        "export",
        "Copy a committed model from a data directory to a safetensors file.",
    ),
    "evaluate": Subcommand(
        "p2pfl.cli.models",
        "evaluate",
        "Judge an exported model on data of yours: metrics, each class, confusion matrix.",
    ),
    "predict": Subcommand(
        "p2pfl.cli.models",
        "predict",
        "Classify pictures, or predict the rows of tables, with an exported model.",
    ),
    "experiment": Subcommand(
        "p2pfl.cli.experiment",
        "app",
        "Simulate many clients: every combination of a file's settings, and a table of results.",
    ),
    "simulate": Subcommand(
        "p2pfl.cli.simulate",
        "simulate",
        "Simulate federations with crashes, partitions and lost disks, and check every step.",
    ),
}
"""The subcommands in the order `p2pfl --help` lists them."""


def load(name: str) -> Any:
    """Import the subcommand *name* and return its command."""
    subcommand = SUBCOMMANDS[name]
    module = import_module(subcommand.module)
    target = getattr(module, subcommand.attribute)
    if isinstance(target, typer.Typer):
        return get_command(target)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=getattr(module, "COMMAND_CLASS", GroupedCommand))(target)
    return get_command(single)


class LazyGroup(PlainValues, TyperGroup):
    """A group that lists its commands from `SUBCOMMANDS` and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, subcommand in SUBCOMMANDS.items():
            # A placeholder for lists and "did you mean"; `get_command` returns the real one.
            self.commands[name] = TyperCommand(name, help=subcommand.help, rich_markup_mode=None)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the group's signature
        """Return the command called *cmd_name*, None if there is none."""
        return load(cmd_name) if cmd_name in SUBCOMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the group's signature
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, subcommand.help) for name, subcommand in SUBCOMMANDS.items()])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"p2pfl {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def p2pfl(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", is_eager=True, callback=_print_version, help="Print the version."),
    ] = False,
) -> None:
    """Federated learning with no server: devices train one model together and never share data."""


def main() -> None:
    """Run the command line of this process, and exit with its code.

    An error that p2pfl raises on purpose, or that comes from the operating system, is one line on standard
    error. Any other is a bug: its traceback goes to a file, and a line on standard error names the file. When
    the reader of standard output goes away (`| head`), the command ends silently, like after SIGPIPE.
    """
    streams.install_outlets()
    if os.environ.get("_P2PFL_COMPLETE"):
        from p2pfl.cli.completing import answer

        answer(sys.argv[1:])
        return
    try:
        try:
            _check_encoding(sys.argv[1:])
            get_command(app)(prog_name="p2pfl")
        finally:
            streams.drain()
    except P2pflError as error:
        _explain(str(error))
        sys.exit(ExitCode.CLONED if isinstance(error, ClonedError) else ExitCode.UNFIT)
    except streams.OutputLost as lost:
        if lost.is_reader_gone:
            sys.exit(ExitCode.READER_GONE)
        _explain(f"standard output cannot be written to: {lost}")
        sys.exit(ExitCode.UNFIT)
    except OSError as error:
        _explain(_refusal(error))
        sys.exit(ExitCode.UNFIT)
    except Exception as error:  # noqa: BLE001 - the last place that can report more than a traceback
        from p2pfl.runtime.logs import keep_traceback

        _explain(
            f"an error nobody foresaw ended this command ({type(error).__name__}: {error}). "
            f"That is a bug; please report it with {keep_traceback(error)}."
        )
        sys.exit(ExitCode.BUG)


def _explain(text: str) -> None:
    """Write *text* to standard error, after everything on standard output."""
    from p2pfl.line_style import LineStyle, Severity

    style = LineStyle(sys.stderr)
    sys.stderr.write(f"{style.line(f'p2pfl: {text}', Severity.ERROR)}\n")


def _refusal(error: OSError) -> str:
    """Describe an error of the operating system; one without a path is written to a file in full."""
    if error.filename is not None:
        return f"the system refused {error.filename}: {error.strerror or error}; check that path"
    from p2pfl.runtime.logs import keep_traceback

    return (
        f"the system refused something: {error.strerror or error}. Check this device's limits; the details "
        f"are in {keep_traceback(error)}."
    )


def _check_encoding(words: list[str]) -> None:
    """Refuse a command line that is not text.

    Raises:
        UserError: an argument has bytes that this locale cannot read.
    """
    for word in words:
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            shown = os.fsencode(word).decode("ascii", "backslashreplace")
            raise UserError(
                f"the argument '{shown}' is no text in this locale's encoding "
                f"({sys.getfilesystemencoding()}): use a UTF-8 locale such as LANG=C.UTF-8, and names that "
                "are valid UTF-8"
            )
