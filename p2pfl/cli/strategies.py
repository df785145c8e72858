"""`p2pfl strategies`: lists the strategies that `p2pfl node --strategy` knows."""

from __future__ import annotations

import typer

WIDTH = 100
"""Characters of a line."""


def strategies() -> None:
    """List the strategies of --strategy with their arguments."""
    import inspect
    import textwrap

    import msgspec

    from p2pfl.learning.strategy_choice import BUILTIN_STRATEGIES, argument_texts
    from p2pfl.strategy_specs import least_updates

    width = max(map(len, BUILTIN_STRATEGIES)) + 2
    for name, kind in BUILTIN_STRATEGIES.items():
        least = least_updates(msgspec.convert({"type": name}, kind))
        told = [inspect.getdoc(kind) or ""]
        if arguments := argument_texts(kind):
            told.append("Arguments: " + ", ".join(f"{key}={text}" for key, text in arguments.items()) + ".")
        if least > 1:
            more = ", more with more attackers" if "attackers" in arguments else ""
            told.append(f"Needs {least} updates in a round{more}.")
        typer.echo(
            textwrap.fill(
                " ".join(told).replace("\n", " "),
                WIDTH,
                initial_indent=f"{name:<{width}}",
                subsequent_indent=" " * width,
            )
        )
    typer.echo(
        "\nChoose one with --strategy NAME, and change an argument with --strategy-arg KEY=VALUE.\n"
        "A class of your own is FILE.py:CLASS; `p2pfl task new FILE.py --kind strategy` writes one."
    )
