"""Values of options in files and in the environment: what is read, what is refused, what is written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from p2pfl.cli import load
from p2pfl.cli.option_values import OptionValues, options_of, shown
from p2pfl.runtime.configure import LISTS

HERE = Path("/there")


def command(
    count: Annotated[int | None, typer.Option("--count", metavar="N", help="How many (default: 7).")] = None,
    share: Annotated[float | None, typer.Option("--share", metavar="X")] = None,
    on: Annotated[bool, typer.Option("--on", help="Do it.")] = False,
    text: Annotated[str, typer.Option("--text", metavar="T")] = "",
    listen: Annotated[str, typer.Option("--listen", metavar="[HOST:]PORT")] = "9000",
    place: Annotated[Path | None, typer.Option("--place", metavar="DIR")] = None,
    joined: Annotated[str, typer.Option("--joined", metavar="A,B,...")] = "",
    several: Annotated[list[str] | None, typer.Option("--several", metavar="PATTERN")] = None,
    pairs: Annotated[list[str] | None, typer.Option("--some-pairs", metavar="KEY=VALUE")] = None,
    loud: Annotated[int, typer.Option("--loud", count=True)] = 0,
    secret: Annotated[int, typer.Option("--secret", hidden=True)] = 1,
) -> None:
    """Do nothing."""


def option(name: str) -> OptionValues:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)
    [found] = [one for one in options_of(get_command(app)) if one.name == name]
    return found


@pytest.mark.parametrize(
    ("name", "toml", "value"),
    [
        ("count", 3, 3),
        ("share", 3, 3.0),
        ("share", 0.5, 0.5),
        ("on", True, True),
        ("text", "x", "x"),
        ("listen", 9100, "9100"),
        ("listen", "a:1", "a:1"),
        ("place", "data", HERE / "data"),
        ("place", "/data", Path("/data")),
        ("place", "~/data", Path("~/data")),
        ("joined", ["a", "b"], "a,b"),
        ("joined", "a,b", "a,b"),
        ("several", ["a", "b"], ["a", "b"]),
        ("several", "a,b", ["a,b"]),
        ("pairs", {"a": 2, "b": 0.5, "c": "x", "d": True}, ["a=2", "b=0.5", "c=x", "d=true"]),
        ("pairs", ["a=2"], ["a=2"]),
        ("loud", 2, 2),
    ],
)
def test_a_value_of_a_file_is_as_the_command_line_would_give_it(name: str, toml: Any, value: Any) -> None:
    assert option(name).from_toml(toml, HERE) == value


@pytest.mark.parametrize(
    ("name", "toml", "expected"),
    [
        ("count", "3", "a whole number"),
        ("count", 3.5, "a whole number"),
        ("count", True, "a whole number"),
        ("share", False, "a number"),
        ("on", 1, "true or false"),
        ("text", 3, "a text"),
        ("listen", True, "a text"),
        ("place", 3, "a path, as a text"),
        ("joined", [1], "a list of texts"),
        ("joined", ["a,b"], "a list of texts without commas"),
        ("several", {"a": 1}, "a list of texts"),
        ("pairs", 3, "a list of texts, or a table"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_is_expected(
    name: str, toml: Any, expected: str
) -> None:
    with pytest.raises(ValueError) as caught:
        option(name).from_toml(toml, HERE)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("task.py", "/there/task.py"),
        ("mine.py:Median", "/there/mine.py:Median"),
        ("/a/task.py", "/a/task.py"),
        ("~/task.py", "~/task.py"),
        ("csv:rounds.csv", "csv:/there/rounds.csv"),
        ("tensorboard:runs", "tensorboard:/there/runs"),
        ("mlflow:http://host", "mlflow:http://host"),
        ("digits", "digits"),
        ("package.module:task", "package.module:task"),
    ],
)
def test_files_in_texts_are_beside_the_file(text: str, value: str) -> None:
    assert option("text").from_toml(text, HERE) == value
    assert option("several").from_toml([text], HERE) == [value]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "3", 3),
        ("share", ".5", 0.5),
        ("on", "Yes", True),
        ("on", "0", False),
        ("text", "3", "3"),
        ("place", "data", "data"),
        ("joined", "a,b", "a,b"),
        ("several", "a.* 'b c'", ["a.*", "b c"]),
    ],
)
def test_a_variable_is_as_the_command_line_would_give_it(name: str, text: str, value: Any) -> None:
    assert option(name).from_text(text) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("count", "x", "a whole number"),
        ("share", "x", "a number"),
        ("on", "perhaps", "1 or 0"),
        ("several", "'x", "a list of texts"),
    ],
)
def test_a_variable_that_means_no_value_is_refused(name: str, text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        option(name).from_text(text)
    assert str(caught.value) == expected


def test_names_follow_from_the_long_flag() -> None:
    assert (option("pairs").key, option("pairs").variable) == ("some-pairs", "P2PFL_SOME_PAIRS")


def test_hidden_options_can_be_set_nowhere_else() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        option("secret")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", 3, ["--count=3"]),
        ("on", True, ["--on"]),
        ("on", False, ["--no-on"]),
        ("several", ["a", "b"], ["--several=a", "--several=b"]),
        ("joined", "a,b", ["--joined=a,b"]),
        ("loud", 2, ["--loud", "--loud"]),
    ],
)
def test_a_value_becomes_words_of_a_command_line_again(name: str, value: Any, words: list[str]) -> None:
    assert option(name).to_words(value) == words


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 3), ("on", True), ("text", 'a "b"\\ é\x7f\n'), ("share", 0.5), ("several", ["a", "b"])],
)
def test_what_is_written_is_read_as_it_was(name: str, value: Any) -> None:
    assert tomllib.loads(f"x = {option(name).to_toml(value)}")["x"] == value


def test_examples_are_valid_and_of_the_right_type() -> None:
    for one in options_of(load("node")):
        value = tomllib.loads(f"x = {one.example()}")["x"]
        one.from_toml(value, HERE)


def test_an_example_is_the_default_where_there_is_one() -> None:
    assert option("count").example() == "7"
    assert option("share").example() == "0.5"


def test_defaults_are_shown_as_the_help_says_or_as_they_are() -> None:
    assert option("count").default_shown() == "7"
    assert option("on").default_shown() == "false"
    assert option("place").default_shown() == "-"


def test_a_wrong_value_is_shown_in_bounds() -> None:
    assert shown("x" * 1000).endswith("…")
    assert len(shown(["x" * 1000])) == 60


def test_a_node_s_options_are_lists_here_where_they_are_in_python() -> None:
    lists = {one.name for one in options_of(load("node")) if one.is_joined or one.kind is list}
    visible = {one.name for one in load("node").params if not getattr(one, "hidden", False)}
    assert lists == LISTS & visible
