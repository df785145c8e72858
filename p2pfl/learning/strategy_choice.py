"""The strategy of a run, from the command line: a name with arguments, or a class in a file of the user's.

It imports no torch. A file of the user's is parsed, not executed: the worker executes it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from p2pfl.errors import UserError
from p2pfl.learning.own.strategy_file import read_strategy_class, split_code
from p2pfl.strategy_specs import OwnStrategySpec, StrategySpec
from p2pfl.text import one_line

BUILTIN_STRATEGIES: Mapping[str, type[StrategySpec]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(StrategySpec) if kind is not OwnStrategySpec
}
"""The specifications of the strategies that come with p2pfl, by name."""


class StrategyChoice(msgspec.Struct, frozen=True):
    """The strategy that the options of a command line name."""

    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """Options of a run, as `p2pfl.spec.from_options` has them; empty if no strategy was named."""
    code: str = ""
    """A class of the user's own: the absolute path of its file, a colon and its name."""


def choose_strategy(name: str | None, arguments: Sequence[str] = ()) -> StrategyChoice:
    """Return the strategy of `--strategy` *name* with the *arguments* of `--strategy-arg`, each KEY=VALUE.

    Raises:
        UserError: there is no such strategy or argument, a value is out of its range, or the file of the
            user's own strategy is wrong.
    """
    if name is None:
        if arguments:
            raise UserError(
                f"--strategy-arg {one_line(arguments[0])} needs a strategy: name it with --strategy."
            )
        return StrategyChoice()
    values = _values(arguments)
    if ":" in name or name.endswith(".py"):
        return _own(name, values)
    tag = name.strip().lower().replace("_", "-")
    kind = BUILTIN_STRATEGIES.get(tag)
    if kind is None:
        raise UserError(
            f"There is no strategy {one_line(name)!r}{_nearest(tag, BUILTIN_STRATEGIES)}; a class of your "
            f"own is FILE.py:CLASS, and the strategies are {', '.join(BUILTIN_STRATEGIES)}."
        )
    known = argument_texts(kind)
    _check_names(tag, values, known)
    try:
        msgspec.convert({"type": tag, **values}, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        raise UserError(
            f"--strategy-arg {key}={values[key]} is out of range: {what[0].lower()}{what[1:]}."
        ) from error
    return StrategyChoice({"strategy": tag, "strategy_arg": values})


def argument_texts(kind: type[StrategySpec]) -> dict[str, str]:
    """Return the arguments of a built-in strategy with their defaults as texts."""
    return {field.name: f"{field.default:g}" for field in msgspec.structs.fields(kind)}


def _own(name: str, values: Mapping[str, float]) -> StrategyChoice:
    file, class_name = split_code(name)
    found = read_strategy_class(file, class_name)
    shown = f"{found.path.name}:{found.name}"
    if found.arguments is not None:
        _check_names(shown, values, {key: text or "needed" for key, text in found.arguments.items()})
        missing = [key for key, text in found.arguments.items() if text is None and key not in values]
        if missing:
            raise UserError(
                f"The strategy {shown} needs the argument {missing[0]}: give --strategy-arg "
                f"{missing[0]}=NUMBER."
            )
    arguments = {"name": shown, "least": found.least, "slots": found.slots, "options": values}
    try:
        msgspec.convert(arguments | {"type": "own"}, OwnStrategySpec)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `")
        which = {"least": "least_updates", "name": "the name of the file with its class"}
        part = path.removeprefix("$.").rstrip("`").partition("[")[0]
        raise UserError(
            f"The strategy {one_line(shown)} cannot be used: {which.get(part, part or 'an argument')} is out "
            f"of range: {what[0].lower()}{what[1:]}."
        ) from error
    return StrategyChoice({"strategy": "own", "strategy_arg": arguments}, f"{found.path}:{found.name}")


def _values(arguments: Iterable[str]) -> dict[str, float]:
    """Return the value of each argument by its name; whole numbers are integers."""
    values: dict[str, float] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        key = key.strip().replace("-", "_")
        if not (key and equals):
            raise UserError(
                f"--strategy-arg is {one_line(argument)!r}, and KEY=VALUE is expected, such as server-lr=0.1."
            )
        if key in values:
            raise UserError(f"--strategy-arg {key} is given twice: give it once.")
        values[key] = _number(key, text.strip())
    return values


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
        if math.isfinite(value):
            return int(text) if text.lstrip("+-").isdecimal() else value
    except ValueError:
        pass
    raise UserError(f"--strategy-arg {key} is {one_line(text)!r}, and a number is expected.")


def _check_names(strategy: str, values: Iterable[str], known: Mapping[str, str]) -> None:
    """Refuse *values* whose names are not *known* to *strategy*.

    Raises:
        UserError: there is one; the message lists the known ones with their defaults.
    """
    for key in values:
        if key not in known:
            listed = ", ".join(f"{name} ({default})" for name, default in known.items())
            has = f"its arguments, with their defaults, are {listed}" if known else "it has none"
            raise UserError(
                f"The strategy {one_line(strategy)} has no argument {one_line(key)!r}{_nearest(key, known)}; "
                f"{has}."
            )


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
