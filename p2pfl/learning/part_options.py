"""Makes a part of a specification, such as a strategy or an attack, from options that a user has given."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from p2pfl.errors import UserError
from p2pfl.spec_part import SpecPart
from p2pfl.text import one_line

Part = TypeVar("Part", bound=SpecPart)

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "array": "a list",
    "object": "a table of options",
}
"""Types of options in words."""


def make_part(what: str, kind: type[Part], options: Mapping[str, object]) -> Part:
    """Return the part *kind* with *options*; *what* names it for errors, such as "strategy 'krum'".

    Raises:
        UserError: there is no such option, or its value is of another type or out of range.
    """
    fields = kind.__struct_fields__
    for name in options:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            known = f"its options are {', '.join(fields)}." if fields else "it has none."
            hint = f"did you mean {near[0]!r}?" if near else known
            raise UserError(f"The {what} has no option {one_line(name)!r}; {hint}")
    try:
        return msgspec.convert({**options, "type": kind.__struct_config__.tag}, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        value = one_line(repr(options.get(name)))
        raise UserError(f"The {what}: {name} is {value}, and {expectation(message)} is expected.") from error


def expectation(message: str) -> str:
    """Return what *message* of msgspec expects: "a whole number >= 1" of "Expected `int` >= 1"."""
    if not message.lower().startswith("expected `"):
        return "another value"
    kinds, _, bound = message.partition(", got ")[0][len("Expected `") :].partition("`")
    words = " or ".join(KINDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")
    return f"{words}{' of another form' if 'regex' in bound else bound}"
