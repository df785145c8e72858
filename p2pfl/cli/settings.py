"""Options that come from a file or from the environment: below those of the command line, above defaults.

The file is the one of `--config`, otherwise `p2pfl.toml` in the current folder; no other place is searched,
so that nothing out of sight decides what a node does. For Click the values are those of a context's
`default_map`. So a value that was set there is told from a default by its source, as one of the command line
is, and never by comparing it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfl.cli.options import WORDS, GroupedCommand
from p2pfl.errors import UserError

FILE = "p2pfl.toml"
"""The file in the current folder."""

SETTINGS = "p2pfl.settings"
"""Key of what was set elsewhere, in a context's `meta`: for each option's name its `Setting`."""

ISOLATED = "isolated"
"""The flag of a command that takes nothing from files and the environment."""

ONCE = ("new_run", "new_journal")
"""Flags that act at one start. In a file they would begin a new run, or a new member, at every restart."""

PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Context settings of commands that take the options of `p2pfl node` besides their own."""

LIKENESS = 0.8
"""How similar, from 0 to 1, an environment variable must be to one of an option to count as misspelt: the
environment has variables of other programs too."""

_WRONG: Mapping[str, Any] = {}
"""In place of the options of a command line that is wrong."""

_ONCE_ADVICE = (
    "would act at every start; give --{} on the command line, for the one start that it is meant for"
)


@dataclass(frozen=True)
class Setting:
    """A value of an option that was not given on the command line."""

    value: Any
    source: str
    """Where it is from, such as "p2pfl.toml:3" or "environment P2PFL_ROUNDS"."""
    shown: str
    """The value as it stands there."""


class ConfiguredCommand(GroupedCommand):
    """A command whose options may also be set by a file and by the environment.

    It needs the options `--config` and `--isolated`.
    """

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser, with a `--no-FLAG` for each flag, for a flag that is set elsewhere."""
        parser: Any = super().make_parser(ctx)
        taken = {flag for one in self.params for flag in (*one.opts, *one.secondary_opts)}
        for parameter in self.params:
            if not getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
                continue
            opposites = [f"--no-{flag[2:]}" for flag in parameter.opts if flag.startswith("--")]
            free = [flag for flag in opposites if flag not in taken]
            if free and parameter.name not in ("help", ISOLATED):
                parser.add_option(parameter, free, parameter.name, action="store_const", const=False)
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the file and the environment, then the command line.

        Raises:
            UserError: a value, a key or the file cannot be used.
        """
        given = self._given(ctx, args)
        is_read = not (ctx.resilient_parsing or given.get("help") or given.get(ISOLATED))
        settings = read_settings(self, given.get("config")) if given is not _WRONG and is_read else {}
        ctx.meta[SETTINGS] = settings
        ctx.default_map = {name: setting.value for name, setting in settings.items()}
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(getattr(error, "param", None), "name", None) or ""
            setting = settings.get(name)
            if setting is None or given.get(name) is not None:
                raise
            raise UserError(f"{setting.source}: {setting.shown}, which cannot be used: {error}") from error

    def _given(self, ctx: Any, args: Sequence[str]) -> Mapping[str, Any]:
        """Return what this command line gives, `_WRONG` if it cannot be read: `parse_args` reports that."""
        try:
            given: Mapping[str, Any] = self.make_parser(ctx).parse_args(list(args))[0]
        except Exception:  # noqa: BLE001 - the errors of the parser have no class of their own in all versions
            return _WRONG
        return given


def passed_on(context: Any) -> list[str]:
    """Return the words of a command line that are for `p2pfl node`; Click has removed a "--" from them."""
    given = context.meta[WORDS]
    tail = list(given[given.index("--") + 1 :]) if "--" in given else []
    return [*context.args[: len(context.args) - len(tail)], "--", *tail] if tail else list(context.args)


def node_context(words: Sequence[str]) -> Any:
    """Return the context of `p2pfl node` with the arguments *words*; nothing is started.

    Raises:
        UserError: a value, a key or the file cannot be used.
    """
    from p2pfl.cli import load

    return load("node").make_context("p2pfl node", list(words))


def read_settings(command: Any, config: str | None = None) -> dict[str, Setting]:
    """Return what is set for *command* by the file *config* (None: the usual one) and the environment.

    Raises:
        UserError: a value, a key or the file cannot be used.
    """
    from p2pfl.cli.option_values import options_of

    path = settings_file(config)
    of_file = read_file(command, path) if path is not None else {}
    return of_file | _from_environment(options_of(command))


def settings_file(config: str | Path | None = None) -> Path | None:
    """Return the file that holds options, given the value *config* of `--config`; None if there is none."""
    from p2pfl.cli.option_values import PREFIX

    named = config or os.environ.get(f"{PREFIX}CONFIG")
    if named:
        return Path(named)
    return Path(FILE) if os.path.lexists(FILE) else None


def read_file(command: Any, path: Path) -> dict[str, Setting]:
    """Return what the file *path* sets for *command*, by the name of the option.

    Raises:
        UserError: it cannot be read, or a key or a value in it is wrong.
    """
    import tomllib

    from p2pfl.cli.option_values import shown
    from p2pfl.paths import full
    from p2pfl.paths import shown as shown_path

    name = shown_path(path)
    try:
        text = path.read_bytes().decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"the file {name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no text in UTF-8: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            f"{name} is no TOML file: {str(error)[0].lower()}{str(error)[1:]}; a line is such as rounds = 20"
        ) from error
    options = _by_key(command)
    folder = full(path).parent
    settings: dict[str, Setting] = {}
    for key, value in content.items():
        line = _line_of(text, key)
        option = options.get(key.replace("_", "-"))
        if option is None:
            raise UserError(f"{name}, line {line}: {_unknown(key, value, list(options))}")
        if option.name in settings:
            raise UserError(f"{name}, line {line}: {key} is set twice; leave one of them")
        if option.name in ONCE:
            raise UserError(f"{name}, line {line}: {key} {_ONCE_ADVICE.format(option.key)}")
        try:
            read = option.from_toml(value, folder)
        except ValueError as error:
            raise UserError(
                f"{name}, line {line}: {key} is {shown(value)}, and {error} is expected, such as "
                f"{key} = {option.example()}"
            ) from error
        settings[option.name] = Setting(read, f"{name}:{line}", f"{key} = {shown(value)}")
    return settings


def data_dir_here() -> Path | None:
    """Return the data directory that file and environment set for a node here; None if they set none.

    Commands to a running node use it, so that they are about the node that is started in the same folder.

    Raises:
        UserError: a value, a key or the file cannot be used.
    """
    from p2pfl.cli import load

    setting = read_settings(load("node")).get("data_dir")
    return Path(setting.value) if setting is not None else None


def misspelt_variables(command: Any, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that look like misspelt ones of *command*, with the right ones."""
    from difflib import get_close_matches

    from p2pfl.cli.option_values import PREFIX, options_of

    variables = [option.variable for option in options_of(command)]
    found: dict[str, str] = {}
    for name in sorted(os.environ if environment is None else environment):
        if name.startswith(PREFIX) and name not in variables:
            bare = [variable.removeprefix(PREFIX) for variable in variables]
            close = get_close_matches(name.removeprefix(PREFIX), bare, 1, LIKENESS)
            found |= {name: PREFIX + close[0]} if close else {}
    return found


@contextmanager
def sources_in_errors(context: Any) -> Iterator[None]:
    """Add to an error that names an option where the option was set, if that is not the command line."""
    try:
        yield
    except UserError as error:
        settings: Mapping[str, Setting] = context.meta.get(SETTINGS, {})
        flags = {flag: one.name for one in context.command.params for flag in one.opts}
        named = [flags[word] for word in re.findall(r"--[a-z][a-z-]*", str(error)) if word in flags]
        places = [
            f"--{name.replace('_', '-')} comes from {settings[name].source}"
            for name in dict.fromkeys(named)
            if name in settings and _source(context, name) == "DEFAULT_MAP"
        ]
        if places:
            error.args = (f"{str(error).rstrip('.')}. ({'; '.join(places)}.)",)
        raise


def source_of(context: Any, name: str) -> str:
    """Return where the value of the option *name* is from: "flag", "default", or as in `Setting`."""
    match _source(context, name):
        case "DEFAULT_MAP":
            return str(context.meta[SETTINGS][name].source)
        case "DEFAULT" | "":
            return "default"
        case _:
            return "flag"


def _source(context: Any, name: str) -> str:
    """Return the name of Click's source of the parameter *name*; empty where it has none."""
    source = context.get_parameter_source(name)
    return source.name if source is not None else ""


def _from_environment(options: Sequence[Any]) -> dict[str, Setting]:
    settings = {}
    for option in options:
        text = os.environ.get(option.variable, "")
        if not text or option.name in ("config", ISOLATED):
            continue
        if option.name in ONCE:
            raise UserError(f"the environment variable {option.variable} {_ONCE_ADVICE.format(option.key)}")
        try:
            value = option.from_text(text)
        except ValueError as error:
            raise UserError(
                f"the environment variable {option.variable} is {text!r}, and {error} is expected"
            ) from error
        settings[option.name] = Setting(value, f"environment {option.variable}", repr(text))
    return settings


def _by_key(command: Any) -> dict[str, Any]:
    """Return the options of *command* that a file may set, by their keys."""
    from p2pfl.cli.option_values import options_of

    return {option.key: option for option in options_of(command) if option.name not in ("config", ISOLATED)}


def _unknown(key: str, value: Any, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    from p2pfl.text import one_line

    if isinstance(value, Mapping):
        return f"there is no table [{one_line(key)}]: all options stand at the top level, such as rounds = 20"
    close = get_close_matches(key.replace("_", "-"), known, 1)
    advice = f"did you mean {close[0]}?" if close else "`p2pfl config init` writes a file with all of them"
    return f"there is no option {one_line(key)!r}; {advice}"


def _line_of(text: str, key: str) -> int:
    """Return the number of the line of *text* that sets *key* at the top level."""
    quoted = re.escape(key)
    begin = rf"\s*(\[\s*)?(\"{quoted}\"|'{quoted}'|{quoted})\s*[\]=.]"
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if re.match(begin, line)), 1)
