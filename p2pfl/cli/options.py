"""Command-line options that commands share: grouped help, and the options that name a running node.

The headings are drawn without rich: importing it costs half the time `--help` may take, and Typer itself
groups options only where rich draws the help. An option's heading is its `rich_help_panel`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from p2pfl.observe.target import Target

WORDS = "p2pfl.words"
"""Key of a command's own arguments, as they were given, in its context's `meta`."""

MAX_DIGITS = 19
"""Python refuses numbers of thousands of digits, with a message of its own."""

WHICH = "Which node (none of these: your only one on this machine)"

AddressArgument = Annotated[
    str | None, typer.Argument(metavar="HOST:PORT", help="Address of a node; needs --certs.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The data directory of your node on this machine.",
        rich_help_panel=WHICH,
    ),
]
NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="The name of your node on this machine, if it runs without --data-dir.",
        rich_help_panel=WHICH,
    ),
]
CertsOption = Annotated[
    Path | None,
    typer.Option(
        "--certs",
        metavar="DIR",
        help="A certificate of role observer or operator, for HOST:PORT (default: certs).",
        rich_help_panel=WHICH,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="N", help="Which certificate of --certs to use.", rich_help_panel=WHICH),
]

THEME_HELP = (
    "Colours: dark, light, high-contrast, ansi (the terminal's own), or a theme of Textual (default: the one "
    "chosen last, or dark)."
)
NOTIFY_HELP = "Show a desktop notification when the run is over."
SCREEN_OPTIONS = ("theme", "notify")
"""Options of `p2pfl node` for the terminal UI that its `--tui` opens; `p2pfl tui` has them too."""


class PlainValues:
    """Mixin of Typer's commands and groups: plain values are converted without pydantic.

    Typer builds a pydantic model for each option that it processes, also for one that was not given. That and
    the import of pydantic were a quarter of the processor time of a node's start.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, all of which convert plain values themselves."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of a command
        for parameter in params:
            if "process_value" not in vars(parameter):
                parameter.process_value = _with_plain_values(parameter)
        return params


class GroupedCommand(PlainValues, TyperCommand):
    """A Typer command with its options under the headings of their `rich_help_panel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the arguments, for commands that start themselves again in another process."""
        ctx.meta[WORDS] = tuple(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except Exception as error:
            # "Did you mean" must not propose options that --help does not list.
            guesses = getattr(error, "possibilities", None)
            if guesses:
                error.possibilities = [name for name in guesses if name in self._shown()]  # type: ignore[attr-defined]
            raise
        return rest

    def _shown(self) -> set[str]:
        """Return the names of the options that `--help` lists."""
        return {name for one in self.params if not getattr(one, "hidden", False) for name in one.opts}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading, in the order the options are declared; the rest come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                rest = "Arguments" if parameter.param_type_name == "argument" else "Options"
                heading = getattr(parameter, "rich_help_panel", None) or rest
                sections.setdefault(heading, []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def _with_plain_values(parameter: Any) -> Callable[[Any, Any], Any]:
    """Return the `process_value` of *parameter* that converts what cannot fail, and leaves the rest to Typer.

    So all messages about wrong values are Typer's.
    """
    of_typer: Callable[[Any, Any], Any] = parameter.process_value
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None or parameter.required:  # versions of Typer without it do not use pydantic
        return of_typer
    kind, info = descriptor.annotation, descriptor.parameter_info
    if info.parser is not None or info.path_type is not None or info.exists or info.resolve_path:
        return of_typer
    is_ranged = info.min is not None or info.max is not None

    def convert(ctx: Any, value: Any) -> Any:
        if value is None:
            plain: Any = () if parameter.multiple or parameter.nargs == -1 else None
        elif type(value) is kind and (value == parameter.default or not is_ranged):
            plain = value
        elif isinstance(value, str) and kind in (str, Path):
            plain = kind(value)
        elif isinstance(value, str) and kind is int and not is_ranged and _is_number(value):
            plain = int(value)
        else:
            return of_typer(ctx, value)
        return plain if parameter.callback is None else parameter.callback(ctx, parameter, plain)

    return convert


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS


def is_given(context: typer.Context, name: str) -> bool:
    """Return whether the parameter *name* was given, also where its value is the default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def find_node(
    address: str | None, data_dir: Path | None, node: str | None, certs: Path | None, name: str | None
) -> Target:
    """Return the node that these options name; without any, the one that is configured here.

    Raises:
        UserError: there is no such node, or it cannot be reached; the message says what to give.
    """
    from p2pfl.cli.settings import data_dir_here
    from p2pfl.observe.target import find_target

    if all(one is None for one in (address, data_dir, node, certs, name)):
        data_dir = data_dir_here()
    return find_target(address, data_dir=data_dir, node=node, certs=certs, name=name)
