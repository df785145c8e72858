"""What messages advise can be done: each option and command they name is one that people can find."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from p2pfl.cli import SUBCOMMANDS, app, load
from p2pfl.cli.options import GroupedCommand
from tests.support.source import ROOT

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
COMMAND = re.compile(r"p2pfl ([a-z]+)\b(?: ([a-z]+)\b)?")

NOT_OURS = {
    "--show-toplevel",
    "--user",
    "--add",
    "--add-port",
    "--dport",
    "--permanent",
    "--reload",
    "--unblockapp",
}
"""Options of other programs that messages name: of git, of systemd, and of firewalls."""


def commands() -> dict[tuple[str, ...], GroupedCommand | Any]:
    """Return every command by its words."""
    found: dict[tuple[str, ...], GroupedCommand | Any] = {}
    for name in SUBCOMMANDS:
        command = load(name)
        inner = getattr(command, "commands", None)
        found |= {(name,): command} if inner is None else {(name, sub): each for sub, each in inner.items()}
    return found


def visible() -> set[str]:
    """Return the names of the options that `--help` lists."""
    named = {"--help"}
    for command in [*commands().values(), get_command(app)]:
        named |= {
            name
            for parameter in command.params
            if not getattr(parameter, "hidden", False)
            for name in parameter.opts
            if name.startswith("--")
        }
    return named


def strings(path: Any) -> Iterator[Any]:
    """Return the texts in the module at *path* that are no docstrings, f-strings' parts among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in lone:
            yield node.lineno, node.value


def messages() -> Iterator[Any]:
    """Return the sentences in the sources: texts with a blank, with where they are."""
    for folder in ("p2pfl", "tui"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, text in strings(path):
                if " " in text:
                    yield f"{path.relative_to(ROOT)}:{line}", text


MESSAGES = list(messages())


def test_every_option_a_message_names_is_in_the_help() -> None:
    known = visible() | NOT_OURS
    wrong = [
        f"{where}: {name}" for where, text in MESSAGES for name in OPTION.findall(text) if name not in known
    ]
    assert wrong == []


def test_every_command_a_message_names_exists() -> None:
    wrong = []
    for where, text in MESSAGES:
        for name, sub in COMMAND.findall("".join(re.findall(r"[`'](p2pfl [^`']*)[`']", text))):
            if name not in SUBCOMMANDS or (name == "certs" and (name, sub) not in commands()):
                wrong.append(f"{where}: p2pfl {name} {sub}")
    assert wrong == []


@pytest.mark.parametrize("name", ["--learning-rate", "--continue-with", "--pace-maker"])
def test_the_check_knows_hidden_and_wrong_options_from_right_ones(name: str) -> None:
    assert name not in visible()
    assert "--lr" in visible()
