"""`p2pfl config`: writes, shows and checks the options of a node that stand in `p2pfl.toml`.

All three work on the parameters of `p2pfl node` itself, so they know every option that it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pfl.cli.options import GroupedCommand
from p2pfl.cli.settings import FILE, ISOLATED, ONCE, PASSED_ON, node_context, passed_on

HELP = "Write, show or check the options of a node in p2pfl.toml and the environment."

WIDTH = 100
"""Characters of a line of a comment."""

HEADER = """\
Options of `p2pfl node`, which reads this file from the folder in which it is started, or with --config.
An option on the command line comes first, then a variable of the environment such as P2PFL_ROUNDS, then
this file, then the default. Paths are relative to this file. The values in comments are the defaults, or
show the form where an option has none. `p2pfl config show` says what holds, and where each value is from.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=HELP)


@app.command("init", cls=GroupedCommand, context_settings=PASSED_ON)
def init(
    context: typer.Context,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help=f"The file to write (default: {FILE}).")
    ] = Path(FILE),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented file with every option of a node.

    Options of 'p2pfl node' that are given here are set in it, such as 'p2pfl config init --rounds 20'.
    """
    from p2pfl.errors import UserError
    from p2pfl.paths import quoted

    given = node_context(["--isolated", *passed_on(context)])
    is_here = to.parent.absolute() == Path.cwd()
    text = "\n".join(_lines(given, is_here=is_here)) + "\n"
    try:
        with to.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(
            f"{to} exists and is not replaced: choose another with --to, or add --force"
        ) from None
    start = "p2pfl node" if is_here and to.name == FILE else f"p2pfl node --config {quoted(to)}"
    typer.echo(f"Wrote {to}. Remove the # before an option to set it; `{start}` uses it.")


@app.command("show", cls=GroupedCommand, context_settings=PASSED_ON)
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
    given: Annotated[
        bool, typer.Option("--given", help="Leave out options that have their defaults.")
    ] = False,
) -> None:
    """Show every option of a node, its value, and where the value comes from.

    It takes the options of 'p2pfl node', and starts nothing.
    """
    from p2pfl.cli.option_values import options_of
    from p2pfl.cli.settings import source_of

    node = node_context(passed_on(context))
    rows = []
    for option in options_of(node.command):
        source = source_of(node, option.name)
        if option.name == ISOLATED or (given and source == "default"):
            continue
        value = node.params[option.name]
        rows.append((option, value, source))
    if json:
        import msgspec

        found = {option.key: {"value": _plain(value), "source": source} for option, value, source in rows}
        typer.echo(msgspec.json.encode(found))
        return
    texts = [
        (option.key, option.default_shown() if source == "default" else option.to_toml(value), source)
        for option, value, source in rows
    ]
    keys, values = (max((len(row[column]) for row in texts), default=0) for column in (0, 1))
    for key, value, source in texts:
        typer.echo(f"{key:<{keys}}  {value:<{min(values, WIDTH // 2)}}  {source}")


@app.command("check", cls=GroupedCommand)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"The file (default: {FILE}).")] = Path(FILE),
) -> None:
    """Check a file: its keys, its values, and whether a node could start with it on this device."""
    from typing import cast

    from p2pfl.cli.option_values import options_of
    from p2pfl.cli.settings import read_file, sources_in_errors
    from p2pfl.runtime.configure import NodeOptions, configure

    node = node_context([f"--config={file}"])
    settings = read_file(node.command, file)
    names = settings.keys() & NodeOptions.__annotations__.keys()
    with sources_in_errors(node):
        configure(cast("NodeOptions", {name: node.params[name] for name in names}))
    keys = [option.key for option in options_of(node.command) if option.name in settings]
    typer.echo(f"{file} sets {len(keys)} options, and nothing is wrong: {', '.join(keys) or 'none'}")


def _lines(node: Any, *, is_here: bool) -> Iterator[str]:
    """Yield the lines of a file with every option, those given in the context *node* set."""
    import textwrap

    from p2pfl.cli.option_values import options_of
    from p2pfl.cli.settings import source_of

    yield from (f"# {line}" for line in HEADER.splitlines())
    options = [one for one in options_of(node.command) if one.name not in ("config", ISOLATED, *ONCE)]
    headings = list(dict.fromkeys(one.heading for one in options if one.heading))
    heading = ""
    for option in sorted(options, key=lambda one: headings.index(one.heading or headings[0])):
        if option.heading != heading and option.heading:
            heading = option.heading
            yield from ("", f"# --- {heading} ".ljust(WIDTH, "-"))
        yield ""
        yield from (f"# {line}" for line in textwrap.wrap(option.help, WIDTH - 2))
        if source_of(node, option.name) == "flag":
            value = node.params[option.name]
            is_moved = isinstance(value, Path) and not is_here
            yield f"{option.key} = {option.to_toml(value.absolute() if is_moved else value)}"
        else:
            yield f"# {option.key} = {option.example()}"


def _plain(value: Any) -> Any:
    """Return *value* as JSON has it."""
    return str(value) if isinstance(value, Path) else value
