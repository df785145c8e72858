"""Lines of the trace: one line for each effect that is a step of the protocol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import assert_never

from p2pfl.core.effects import AnyEffect, Send, Tell
from p2pfl.messages import (
    Accept,
    Accepted,
    Ack,
    Card,
    Collect,
    Commit,
    ControlRequest,
    Decline,
    DeviceInfo,
    Offer,
    Prepare,
    Promise,
    Record,
    Records,
    RecordsRequest,
    Refuse,
    Report,
    Status,
    StepDown,
    Submit,
    Undelivered,
)

SHORT = 7
"""Characters shown of an id or a digest."""

MAX_LINE = 200
"""Maximum characters of a line."""

_LONG = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[a-z2-7]{52})\b")


def line_of(effect: AnyEffect, name_of: Callable[[str], str]) -> str | None:
    """Return the line for *effect*; None if it is no step. *name_of* maps node ids to names."""
    if isinstance(effect, Tell):
        return shortened(str(effect.event))
    if not isinstance(effect, Send):
        return None
    match effect.message:
        case Prepare() | Collect() | Submit() | Ack() | StepDown() | Accepted() as message:
            what = f"round {message.round} {message.ballot.attempt} of {name_of(message.ballot.node)}"
        case Promise() as message:
            value = f", has accepted {_value(message.accepted)}" if message.accepted is not None else ""
            what = f"round {message.round} {message.ballot.attempt} of {name_of(message.ballot.node)}{value}"
        case Accept() as message:
            ballot, value = message.ballot, _value(message.record)
            what = f"round {message.round} {ballot.attempt} of {name_of(ballot.node)}: {value}"
        case Refuse() as message:
            ballot, higher = message.ballot, message.promised
            what = (
                f"round {message.round} {ballot.attempt} of {name_of(ballot.node)} "
                f"for {higher.attempt} of {name_of(higher.node)}"
            )
        case Commit() as message:
            what = f"round {message.record.round}: {_value(message.record)}"
        case (
            Status()
            | Offer()
            | Undelivered()
            | Report()
            | RecordsRequest()
            | Records()
            | Decline()
            | ControlRequest()
            | Card()
            | DeviceInfo()
        ):
            return None
        case _:
            assert_never(effect.message)
    return f"-> {name_of(effect.to)} {type(effect.message).__name__.upper()} {what}"


def shortened(text: str) -> str:
    """Return *text* with ids and digests shortened, cut to `MAX_LINE`."""
    return _LONG.sub(lambda found: found[0][:SHORT], text)[:MAX_LINE]


def _value(record: Record) -> str:
    return f"model {record.model[:SHORT]} of {len(record.updates)} updates"
