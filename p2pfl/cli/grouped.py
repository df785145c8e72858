"""A command whose `--help` puts its options under headings, without rich.

Importing rich costs half the time `--help` may take, and Typer itself groups options only where rich draws
the help. The heading is the option's `rich_help_panel`.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

WORDS = "p2pfl.words"
"""Where a command finds its own command line as it was given: in its context's `meta`."""


class GroupedCommand(TyperCommand):
    """A Typer command with its options under the headings of their `rich_help_panel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the command line for commands that start themselves again in another process."""
        ctx.meta[WORDS] = tuple(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except Exception as error:
            # "Did you mean" of an option that nobody can look up in --help helps nobody.
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
