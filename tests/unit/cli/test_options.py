"""What commands share of their options: help under headings without rich, and which node is meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.core import TyperCommand
from typer.testing import CliRunner

from p2pfl.cli import load
from p2pfl.cli.options import WORDS, GroupedCommand, find_node, is_given
from p2pfl.errors import UserError

OF_A_NODE = ("status", "watch", "tui", "start", "pause", "resume", "stop", "leave", "save")
"""Commands that take a running node."""


def command(
    name: Annotated[str, typer.Argument(help="Whose.")],
    one: Annotated[int, typer.Option("--one", help="First.", rich_help_panel="Near")] = 1,
    two: Annotated[int, typer.Option("--two", help="Second.", rich_help_panel="Far")] = 2,
    three: Annotated[int, typer.Option("--three", help="Third.", rich_help_panel="Near")] = 3,
    secret: Annotated[int, typer.Option("--secret", hidden=True)] = 4,
) -> None:
    """Do it."""


def test_a_command_can_find_its_command_line() -> None:
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


def test_options_stand_under_their_headings_in_the_order_of_declaration() -> None:
    text = help_text()
    places = [
        text.index(word) for word in ("Near:", "--one", "--three", "Far:", "--two", "Options:", "--help")
    ]
    assert places == sorted(places)


def test_arguments_have_a_heading_of_their_own() -> None:
    text = help_text()
    assert text.index("Arguments:") < text.index("Whose.") < text.index("Near:")


def test_hidden_options_are_not_listed() -> None:
    assert "secret" not in help_text()


def test_hidden_options_are_not_proposed() -> None:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=GroupedCommand)(command)
    assert "Possible options: --two" in CliRunner().invoke(app, ["x", "--twoo"]).output
    assert "secret" not in CliRunner().invoke(app, ["x", "--secre"]).output.replace(
        "No such option: --secre", ""
    )


@pytest.mark.parametrize(("words", "given"), [([], False), (["--one", "1"], True), (["--one", "2"], True)])
def test_an_option_is_given_also_with_the_value_of_its_default(words: list[str], given: bool) -> None:
    found: list[bool] = []

    def look(context: typer.Context, one: int = 1) -> None:
        found.append(is_given(context, "one"))

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=GroupedCommand)(look)
    CliRunner().invoke(app, words)
    assert found == [given]


@pytest.mark.parametrize("command", OF_A_NODE)
def test_every_command_to_a_node_takes_all_options_that_name_one(command: str) -> None:
    assert {"address", "data_dir", "node", "certs", "name"} <= {one.name for one in load(command).params}


@pytest.mark.parametrize("command", OF_A_NODE)
def test_no_option_that_names_a_node_is_needed(command: str) -> None:
    assert not any(one.required for one in load(command).params)


@pytest.mark.parametrize("command", OF_A_NODE)
def test_what_names_no_node_is_an_error_of_the_user(command: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no data directory"):
        load(command).main(["--data-dir", str(tmp_path / "none")], standalone_mode=False)


def test_options_that_name_two_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        find_node("10.0.0.1:9000", tmp_path, None, None, None)


def values(
    name: Annotated[str | None, typer.Argument()] = None,
    number: Annotated[int | None, typer.Option("--number")] = None,
    limited: Annotated[int, typer.Option("--limited", min=2)] = 3,
    share: Annotated[float, typer.Option("--share")] = 0.5,
    place: Annotated[Path, typer.Option("--place")] = Path("here"),
    places: Annotated[list[Path] | None, typer.Option("--places")] = None,
    words: Annotated[list[str] | None, typer.Option("--words")] = None,
    loud: Annotated[int, typer.Option("-l", "--loud", count=True)] = 0,
    on: Annotated[bool, typer.Option("--on")] = False,
) -> None:
    """Print what arrives."""
    typer.echo(repr((name, number, limited, share, place, places, words, loud, on)))


def answer_of(kind: type[TyperCommand], words: list[str]) -> tuple[int, str]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=kind)(values)
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ada"],
        *(
            [f"--number={text}"]
            for text in ("7", "007", "-3", " 5", "x", "1.5", "1e3", "", "\u0663", "9" * 30)
        ),
        ["--number", "9" * 5000],
        *([f"--limited={text}"] for text in ("2", "1", "3", "x")),
        *([f"--share={text}"] for text in ("0.5", "1", "x")),
        *([f"--place={text}"] for text in ("there", "", "~/x")),
        ["--places=a", "--places=b"],
        ["--words=a", "--words=b"],
        ["-ll", "--on"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_values_and_mistakes_are_those_of_typer(words: list[str]) -> None:
    assert answer_of(GroupedCommand, words) == answer_of(TyperCommand, words)


def test_the_options_of_a_node_are_read_without_pydantic(tmp_path: Path) -> None:
    words = [
        "--certs=nowhere",
        "--peers=pi:9000",
        "--rounds=3",
        "--model=2nn",
        f"--data-dir={tmp_path}",
        "-v",
    ]
    show = "import sys; from p2pfl.cli.settings import node_context; node_context(sys.argv[1:])"
    code = f"{show}; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
