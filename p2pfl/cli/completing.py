"""Completes a command line that is not finished, for the shells that `p2pfl completion` supports.

A shell calls `p2pfl` with `COMPLETE_VARIABLE` set and the words so far, the last of which is unfinished. The
answer is one candidate a line, with its help behind a tab. Candidates follow from the commands themselves,
and nothing that is slow to import is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

COMPLETE_VARIABLE = "_P2PFL_COMPLETE"
"""Environment variable with which a shell asks for candidates."""

FILES, FOLDERS = "<files>", "<folders>"
"""In place of candidates: the shell itself completes paths better."""


class Completion(NamedTuple):
    """One way to complete the last word."""

    value: str
    help: str = ""


def answer(words: Sequence[str]) -> None:
    """Print the candidates for the last of *words*; nothing where something is wrong with the others."""
    try:
        found = candidates(words)
    except Exception:  # noqa: BLE001 - a traceback in the middle of a line that is typed helps nobody
        return
    for candidate in found:
        sys.stdout.write(f"{candidate.value}\t{' '.join(candidate.help.split())}\n")


def candidates(words: Sequence[str]) -> list[Completion]:
    """Return the candidates for the last of *words*, which follow the name of the program."""
    *before, last = _joined(words) or [""]
    command, rest = _command_of(before)
    prefix, equals, value = last.partition("=")
    if last.startswith("-") and equals and (parameter := _option(command, prefix)) is not None:
        # bash has cut the word at "=", so it takes the value alone.
        lead = "" if "=" in words else f"{prefix}="
        return [Completion(_led(lead, one.value), one.help) for one in _values(command, parameter, value)]
    if rest and (parameter := _option(command, rest[-1])) is not None and not _is_flag(parameter):
        return _values(command, parameter, last)
    if last.startswith("-"):
        return _starting(_options(command), last)
    if (commands := _commands(command)) is not None:
        return _starting(commands, last)
    argument = next((one for one in command.params if one.param_type_name == "argument"), None)
    return _values(command, argument, last) if argument is not None else []


def _joined(words: Sequence[str]) -> list[str]:
    """Return *words* with `--option = value` as one word again, which is how bash cuts it."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].startswith("--") and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _command_of(words: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the command that *words* name, None for none yet, and the words after its name."""
    from p2pfl.cli import SUBCOMMANDS, load

    command: Any = None
    rest: list[str] = []
    for word in words:
        commands = {} if command is None else getattr(command, "commands", {})
        if command is None and word in SUBCOMMANDS:
            command = load(word)
        elif word in commands:
            command = commands[word]
        else:
            rest.append(word)
    return command, rest


def _commands(command: Any) -> list[Completion] | None:
    """Return the commands below *command*; None if it has none of its own."""
    from p2pfl.cli import SUBCOMMANDS

    if command is None:
        return [Completion(name, one.help) for name, one in SUBCOMMANDS.items()]
    inner = getattr(command, "commands", None)
    if inner is None:
        return None
    return [
        Completion(name, (one.help or "").split("\n\n")[0]) for name, one in inner.items() if not one.hidden
    ]


def _parameters(command: Any) -> list[Any]:
    """Return the visible options of *command*, with those of a node where it passes them on."""
    from typer.main import get_command

    from p2pfl.cli import app, load

    found = list((get_command(app) if command is None else command).params)
    if getattr(command, "ignore_unknown_options", False) or (
        getattr(command, "context_settings", {}).get("ignore_unknown_options", False)
    ):
        found += load("node").params
    return [one for one in found if one.param_type_name == "option" and not getattr(one, "hidden", False)]


def _options(command: Any) -> list[Completion]:
    found = [
        Completion(flag, one.help or "")
        for one in _parameters(command)
        for flag in one.opts
        if flag.startswith("--")
    ]
    return list(dict.fromkeys([*found, Completion("--help", "Show this message and exit.")]))


def _option(command: Any, flag: str) -> Any:
    """Return the option *flag* of *command*; None if there is none."""
    return next((one for one in _parameters(command) if flag in one.opts), None)


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))


def _values(command: Any, parameter: Any, last: str) -> list[Completion]:
    """Return the candidates for a value of *parameter* that begins with *last*."""
    hint = _hint(command, parameter)
    if hint is not Path and (names := NAMES.get(parameter.name)) is not None:
        found = _starting([Completion(name) for name in names()], last)
        may_be_file = parameter.name in ("task", "strategy")
        return [*found, Completion(FILES)] if may_be_file and not found else found
    metavar = parameter.metavar or ""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _starting([Completion(str(one.value)) for one in hint], last)
    if "|" in metavar:
        return _starting([Completion(name) for name in metavar.strip("[]").split("|")], last)
    if metavar == "DIR":
        return [Completion(FOLDERS)]
    return [Completion(FILES)] if hint is Path or metavar == "FILE" else []


def _hint(command: Any, parameter: Any) -> Any:
    """Return the type of a value of *parameter*."""
    hint = get_type_hints(command.callback).get(parameter.name) if command is not None else None
    while (inner := [one for one in get_args(hint) if one is not type(None)]) and not isinstance(hint, type):
        hint = inner[0]
    return get_args(hint)[0] if get_args(hint) else hint


def _starting(found: Sequence[Completion], last: str) -> list[Completion]:
    return [one for one in found if one.value.startswith(last)]


def _led(lead: str, value: str) -> str:
    return value if value in (FILES, FOLDERS) else lead + value


def _tasks() -> Iterator[str]:
    from p2pfl.learning.catalogue import CATALOGUE

    yield from CATALOGUE


def _models() -> Iterator[str]:
    from p2pfl.learning.catalogue import CATALOGUE

    yield from dict.fromkeys(model for entry in CATALOGUE.values() for model in entry.models)


def _strategies() -> Iterator[str]:
    from p2pfl.learning.strategy_choice import BUILTIN_STRATEGIES

    yield from BUILTIN_STRATEGIES


def _nodes() -> Iterator[str]:
    from p2pfl.paths import folders_in
    from p2pfl.store.directory import default_place

    yield from (folder.name for folder in folders_in(default_place()))


NAMES: dict[str, Callable[[], Iterator[str]]] = {
    "task": _tasks,
    "model": _models,
    "strategy": _strategies,
    "node": _nodes,
}
"""Names that are known elsewhere, by the name of the parameter that takes one."""
