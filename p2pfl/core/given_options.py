"""Decides which device's options a run has, from those that operators gave (rule "Founding a run").

Each node in no run tells its own in its Status, as short texts. A run has the options of one device. Where
nobody decides by `p2pfl start`, a device may found only if it was given everything that any device was given,
with the same values; so no option that somebody gave is lost without a word. Options that a device was not
given are defaults, and contradict nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from blake3 import blake3

from p2pfl.core.options import Options
from p2pfl.messages import MAX_OPTION_TEXT, GivenOption
from p2pfl.personal_specs import LoraSpec
from p2pfl.spec import MetricTarget, shown_options
from p2pfl.text import one_line

DIGEST_LENGTH = 8
"""Characters of the digest that stands for the rest of a long value."""

HOW_TO_DECIDE = "run `p2pfl start` on the device whose options are to hold, or start all with the same"
"""Advice of a difference. With `--wait` on one device, its start decides in the same way."""

MAX_SHOWN = 200
"""Maximum number of characters of the options of a run, where people read them before its start."""


class Giver(msgspec.Struct, frozen=True):
    """A device, as far as it matters whose options hold."""

    node: str
    name: str
    given: Mapping[str, str]
    """The value of each option of the run that the device's operator gave."""
    choice: int = 0
    """See `p2pfl.messages.Status.choice`."""


class Holding(msgspec.Struct, frozen=True):
    """Whose options a run would have now."""

    founders: frozenset[str] | None
    """Node ids of the devices that may found; None: all may, since nobody gave any option."""
    options: str = ""
    """The options that the run would have, for people; empty where they are all defaults, or undecided."""
    of: str = ""
    """Name of the device whose options would hold; empty where nobody gave any, or it is undecided."""
    difference: str = ""
    """Why it is undecided, and how to decide; empty where it is decided."""


def given_options(options: Options) -> tuple[GivenOption, ...]:
    """Return the options of the run that *options* say were given, with their values, by name."""
    values = shown_options(options.spec)
    if "partitions" in options.given:
        values["partitions"] = options.partitions
    names = {"strategy" if name == "strategy_arg" else name for name in options.given}
    return tuple(
        GivenOption(name, _shortened(_text(values[name]))) for name in sorted(names) if name in values
    )


def decide_holding_options(givers: list[Giver], me: str = "") -> Holding:
    """Return whose options hold among the devices *givers*, which are all that are linked and in no run.

    The last device at which an operator gave `p2pfl start` decides; of two at the same time, the lower id.
    Of several devices with the same options, the node *me* is named, or else the first one.
    """
    chosen = min((one for one in givers if one.choice), key=lambda one: (-one.choice, one.node), default=None)
    if chosen is not None:
        return Holding(frozenset({chosen.node}), _shown(chosen.given), chosen.name)
    with_options = sorted((one for one in givers if one.given), key=lambda one: one.node)
    if not with_options:
        return Holding(None)
    union: dict[str, str] = {}
    for one in with_options:
        union.update(one.given)
    founders = [one for one in with_options if one.given == union]
    if founders and all(one.given.items() <= union.items() for one in with_options):
        named = next((one for one in founders if one.node == me), founders[0])
        return Holding(frozenset(one.node for one in founders), _shown(union), named.name)
    return Holding(frozenset(), difference=f"{_first_difference(with_options)}; {HOW_TO_DECIDE}")


def _first_difference(givers: list[Giver]) -> str:
    """Return an option on which *givers* differ: one with two values, else one that one of them lacks."""
    names = sorted({name for one in givers for name in one.given})
    for name in names:
        first, *others = (one for one in givers if name in one.given)
        other = next((one for one in others if one.given[name] != first.given[name]), None)
        if other is not None:
            values = f"{_value(first, name)} on {_who(first)} and {_value(other, name)} on {_who(other)}"
            return f"{flag_of(name)} is {values}"
    most = max(givers, key=lambda one: len(one.given))
    name, giver = next(
        (name, one) for name in names if name not in most.given for one in givers if name in one.given
    )
    value = f"{flag_of(name)} is {_value(giver, name)} on {_who(giver)}"
    own = min(most.given)
    return f"{value} and not given on {_who(most)}, which has {flag_of(own)} {_value(most, own)}"


def flag_of(name: str) -> str:
    """Return the option of the command line that sets field *name* of a spec."""
    return "--lr" if name == "learning_rate" else f"--{name.replace('_', '-')}"


def _value(one: Giver, name: str) -> str:
    return one_line(one.given[name], 40)


def _who(one: Giver) -> str:
    return one_line(one.name, 40)


def _shown(given: Mapping[str, str]) -> str:
    texts = (f"{flag_of(name)} {value}" for name, value in sorted(given.items()))
    return one_line(", ".join(texts), MAX_SHOWN)


def _text(value: Any) -> str:
    """Return the *value* of an option, as on the command line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case MetricTarget():
            return f"{value.metric}={value.value}"
        case LoraSpec():
            return ", ".join(_lora_parts(value))
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _lora_parts(lora: LoraSpec) -> Iterator[str]:
    yield f"rank={lora.rank},alpha={lora.alpha}"
    yield f"target {','.join(lora.target)}"
    if lora.train:
        yield f"train {','.join(lora.train)}"


def _shortened(text: str) -> str:
    """Return *text* within the bound of a message; a long one ends in its digest, so it stays distinct."""
    if len(text) <= MAX_OPTION_TEXT:
        return text
    digest = blake3(text.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{text[: MAX_OPTION_TEXT - DIGEST_LENGTH - 1]}…{digest}"
