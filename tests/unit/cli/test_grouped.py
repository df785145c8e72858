"""The help of a command with many options: under headings, without rich."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.testing import CliRunner

from p2pfl.cli.grouped import WORDS, GroupedCommand


def command(
    name: Annotated[str, typer.Argument(help="Whose.")],
    one: Annotated[int, typer.Option("--one", help="First.", rich_help_panel="Near")] = 1,
    two: Annotated[int, typer.Option("--two", help="Second.", rich_help_panel="Far")] = 2,
    three: Annotated[int, typer.Option("--three", help="Third.", rich_help_panel="Near")] = 3,
    secret: Annotated[int, typer.Option("--secret", hidden=True)] = 4,
) -> None:
    """Do it."""


def test_a_command_can_find_its_command_line():
    found: list[tuple[str, ...]] = []

    def look(context: typer.Context, one: int = 1) -> None:
        found.append(context.meta[WORDS])

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=GroupedCommand)(look)
    CliRunner().invoke(app, ["--one", "7"])
    assert found == [("--one", "7")]


def help_text() -> str:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=GroupedCommand)(command)
    return CliRunner().invoke(app, ["--help"]).output


def test_options_stand_under_their_headings_in_the_order_of_declaration():
    text = help_text()
    places = [
        text.index(word) for word in ("Near:", "--one", "--three", "Far:", "--two", "Options:", "--help")
    ]
    assert places == sorted(places)


def test_arguments_have_a_heading_of_their_own():
    text = help_text()
    assert text.index("Arguments:") < text.index("Whose.") < text.index("Near:")


def test_hidden_options_are_not_listed():
    assert "secret" not in help_text()


def test_hidden_options_are_not_proposed():
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=GroupedCommand)(command)
    assert "Possible options: --two" in CliRunner().invoke(app, ["x", "--twoo"]).output
    assert "secret" not in CliRunner().invoke(app, ["x", "--secre"]).output.replace(
        "No such option: --secre", ""
    )
