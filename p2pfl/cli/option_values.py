"""The options of a command as values of a TOML file and of the environment.

Everything follows from the command itself: the names of an option from its flags, its kind from the
annotation of the command's function. So an option that is added to the command can be set everywhere.
"""

from __future__ import annotations

import json
import re
import shlex
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from p2pfl.text import one_line

PREFIX = "P2PFL_"
"""Of the environment variables that set options."""

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
"""Texts of an environment variable for an option that is a flag."""

EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path, as a text",
    list: "a list of texts",
}

MAX_SHOWN = 60
"""Characters of a wrong value in a message."""

_PYTHON_FILE = re.compile(r"\.py(:\w+)?\Z")
"""The end of a task's or a strategy's file."""

_FILE_TARGET = re.compile(r"(csv|tensorboard):(.*)", re.DOTALL)
"""A place of `--track` that is on this device."""


@dataclass(frozen=True)
class OptionValues:
    """One option: its names, and how its values are read and written."""

    parameter: Any
    """The parameter of the command."""
    kind: type
    """One of the keys of `EXPECTED`."""
    is_joined: bool
    """Whether it is a text of the command line that has several values, with commas between them."""

    @property
    def name(self) -> str:
        """The name of the parameter in the command's function."""
        return str(self.parameter.name)

    @property
    def key(self) -> str:
        """The key in the file: the long flag without its dashes."""
        flags = [flag for flag in self.parameter.opts if flag.startswith("--")]
        return flags[0].removeprefix("--") if flags else self.name

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.key.replace("-", "_").upper()

    @property
    def help(self) -> str:
        """The text of `--help`."""
        return str(self.parameter.help or "")

    @property
    def metavar(self) -> str:
        """The placeholder of a value in `--help`; empty for a flag."""
        return str(self.parameter.metavar or "")

    @property
    def heading(self) -> str:
        """The heading in `--help`."""
        return str(getattr(self.parameter, "rich_help_panel", None) or "")

    @property
    def default_text(self) -> str:
        """What the option is where nobody sets it, as `--help` says."""
        found = re.search(r"\(default: ([^();]*)", self.help)
        return found[1] if found is not None else ""

    @property
    def expected(self) -> str:
        """What a value has to be, for messages."""
        if self._takes_table:
            return "a list of texts, or a table"
        return EXPECTED[list] if self.is_joined else EXPECTED[self.kind]

    def from_toml(self, value: Any, folder: Path) -> Any:
        """Return the *value* of a file in *folder* as the command line would give it.

        Raises:
            ValueError: it is of another type.
        """
        if self.kind is list or self.is_joined:
            return self._list_from_toml(value, folder)
        if self.kind is bool:
            is_right = isinstance(value, bool)
        elif self.kind in (int, float):
            wanted = int if self.kind is int else (int, float)
            is_right = isinstance(value, wanted) and not isinstance(value, bool)
        else:
            if isinstance(value, int) and not isinstance(value, bool) and self.metavar.endswith("PORT"):
                value = str(value)
            is_right = isinstance(value, str)
        if not is_right:
            raise ValueError(self.expected)
        if self.kind is float:
            return float(value)
        if self.kind is Path:
            return _beside(value, folder)
        return _with_place(value, folder) if self.kind is str else value

    def from_text(self, text: str) -> Any:
        """Return the *text* of an environment variable as the command line would give it.

        Raises:
            ValueError: it means no value of this kind.
        """
        try:
            if self.kind is bool:
                lowered = text.strip().lower()
                if lowered not in (*TRUE, *FALSE):
                    raise ValueError
                return lowered in TRUE
            if self.kind is list:
                return shlex.split(text)
            return text if self.kind in (str, Path) else self.kind(text)
        except ValueError:
            expected = "1 or 0" if self.kind is bool else self.expected
            raise ValueError(expected) from None

    def to_toml(self, value: Any) -> str:
        """Return a *value* of the command line as text of a file."""
        if self.is_joined:
            value = [part.strip() for part in str(value).split(",") if part.strip()]
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(to_toml(str(one)) for one in value) + "]"
        return to_toml(value)

    def to_words(self, value: Any) -> list[str]:
        """Return a *value* of the command line as its words."""
        flag = f"--{self.key}"
        if self.parameter.param_type_name == "argument":
            return ["--", *map(str, value)]
        if self.kind is bool:
            return [flag] if value else [f"--no-{self.key}"]
        if getattr(self.parameter, "count", False):
            return [flag] * int(value)
        return [f"{flag}={one}" for one in (value if isinstance(value, (list, tuple)) else [value])]

    def example(self) -> str:
        """Return a value for a file: the default where it is one, otherwise one that shows the form."""
        default = self.default_text
        if self.kind is bool:
            return "true"
        if self.kind in (int, float):
            is_number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", default) is not None
            return default if is_number else "1" if self.kind is int else "0.5"
        if self.kind is list:
            return self.to_toml([self.metavar.strip("[]").removeprefix("-- ")])
        is_word = re.fullmatch(r"[\w.:-]+", default) is not None
        return self.to_toml(default if is_word else self.metavar)

    def default_shown(self) -> str:
        """Return the default for people; "-" for none."""
        value = self.parameter.default
        is_plain = isinstance(value, (bool, int, float)) and not self.default_text
        return to_toml(value) if is_plain else self.default_text or "-"

    @property
    def _takes_table(self) -> bool:
        return self.metavar == "KEY=VALUE"

    def _list_from_toml(self, value: Any, folder: Path) -> Any:
        if isinstance(value, str):
            return value if self.is_joined else [_with_place(value, folder)]
        if isinstance(value, Mapping) and self._takes_table:
            value = [
                f"{key}={to_toml(one) if not isinstance(one, str) else one}" for key, one in value.items()
            ]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(self.expected)
        if self.is_joined and any("," in one for one in value):
            raise ValueError(f"{self.expected} without commas")
        return ",".join(value) if self.is_joined else [_with_place(one, folder) for one in value]


def options_of(command: Any) -> list[OptionValues]:
    """Return the options of *command* that a file and the environment may set: those that `--help` lists."""
    hints = get_type_hints(command.callback)
    found = []
    for parameter in command.params:
        if parameter.name in hints and not getattr(parameter, "hidden", False):
            kind = _kind(hints[parameter.name])
            is_joined = kind is str and "," in (parameter.metavar or "")
            found.append(OptionValues(parameter, kind, is_joined))
    return found


def to_toml(value: Any) -> str:
    """Return a number, a truth value or a text as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def shown(value: Any) -> str:
    """Return a wrong *value* for a message."""
    return one_line(to_toml(value) if isinstance(value, (bool, int, float, str)) else repr(value), MAX_SHOWN)


def _kind(hint: Any) -> type:
    """Return the key of `EXPECTED` that the annotation *hint* of an option means."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [one for one in get_args(hint) if one is not type(None)]
    kind = get_origin(hint) or hint
    return kind if kind in EXPECTED else str


def _beside(text: str, folder: Path) -> Path:
    """Return the path *text* of a file in *folder*."""
    path = Path(text)
    return path if text.startswith("~") else folder / path


def _with_place(text: str, folder: Path) -> str:
    """Return *text*, with the file or folder in it made one beside the file in *folder*.

    That are Python files, such as "task.py" and "mine.py:Median", and places such as "csv:rounds.csv".
    """
    if _PYTHON_FILE.search(text):
        return str(_beside(text, folder))
    if found := _FILE_TARGET.fullmatch(text):
        return f"{found[1]}:{_beside(found[2], folder)}"
    return text
