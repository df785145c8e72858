"""What a node tells, as plain lines: for pipes, logs, and screen readers."""

from __future__ import annotations

import time

import msgspec

from p2pfl.events import RoundRow
from p2pfl.observe.connection import Connected, Connection, Item, NodeEnded, Retrying
from p2pfl.observe.render import line_of
from p2pfl.wire.codec import bounded


def item_line(item: Item) -> str | None:
    """Return a line for *item*; None where it is not worth one."""
    if isinstance(item, RoundRow):
        return _row_line(item)
    line = line_of(item.event, item.training_round)
    if line is None:
        return None
    return f"{time.strftime('%H:%M:%S', time.localtime(item.time))} {line[0]} {line[1]}"


def item_json(item: Item) -> str:
    """Return *item* as one line of JSON; rounds that lie behind have "event": "history"."""
    if isinstance(item, RoundRow):
        fields = {"event": "history", "training_round": item.training_round, **msgspec.to_builtins(item)}
    else:
        about = {} if item.training_round is None else {"training_round": item.training_round}
        fields = {"seq": item.seq, "time": item.time, **about, **msgspec.to_builtins(item.event)}
    return msgspec.json.encode(fields).decode()


def connection_line(connection: Connection) -> str | None:
    """Return a line for how the connection is; None where there is nothing to say."""
    match connection:
        case Connected(greeting=greeting):
            name = bounded(greeting.name, 64)
            return (
                f"-- connected to {name} of {bounded(greeting.federation, 64)} as {bounded(greeting.who, 80)}"
            )
        case Retrying() if connection.number == 1:
            return f"-- no connection, trying again: {bounded(connection.reason, 400)}"
        case NodeEnded():
            return f"-- {bounded(connection.reason, 400)}"
        case _:
            return None


def _row_line(row: RoundRow) -> str | None:
    if row.kind != "train":
        return None
    accuracy = "not evaluated"
    if row.accuracy is not None:
        accuracy = f"accuracy {row.accuracy:.4f}, loss {row.loss:.4f}"
        if not row.committed:
            accuracy += f" on {row.samples} samples, reported by {len(row.scores)} members"
    seconds = f" in {row.seconds:.1f} s" if row.seconds else ""
    return (
        f"         round {row.training_round}: {accuracy}; {len(row.updates)} of {len(row.members)} updates, "
        f"averaged by {bounded(row.aggregator, 64)}{seconds}"
    )
