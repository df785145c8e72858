"""Prints a node's events as plain lines or JSON, each once, through restarts and lost connections.

After a restart a node sends its history again: the printer compares it with what it printed before. A round
that was printed as one line of the history is not printed again event by event.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

import msgspec

from p2pfl import events
from p2pfl.events import RoundRow
from p2pfl.observe.connection import Connected, Connection, Item, NodeEnded, Retrying
from p2pfl.observe.render import line_of, means
from p2pfl.text import one_line

_OF_ROUND = (
    events.Committed,
    events.Elected,
    events.TrainingFinished,
    events.UpdateReused,
    events.UpdateRefused,
    events.SteppedDown,
    events.RosterChanged,
)
"""Events about a round that its line of the history covers."""


class EventPrinter:
    """Prints what a `Follower` delivers."""

    def __init__(self, write: Callable[[str], None], note: Callable[[str], None], *, json: bool) -> None:
        """Pass lines to *write*, as JSON with *json*; lines about the connection go to *note*."""
        self._write = write
        self._note = note
        self._json = json
        self._stream = ""
        self._seq = 0
        """The last printed number of that stream."""
        self._run = ""
        self._printed: set[tuple[str, int]] = set()
        """Committed rounds that were printed, by run and number."""
        self._from_history: dict[tuple[str, int], bool] = {}
        """Those printed as a line of the history, and whether with committed metrics."""

    def deliver(self, item: Item) -> None:
        """Print the next item, unless it was printed before."""
        if isinstance(item, RoundRow):
            self._run, key = item.run, (item.run, item.round)
            if key not in self._printed:
                self._printed.add(key)
                self._from_history[key] = bool(item.metrics) and item.committed
                self._print(item)
        elif item.seq > self._seq:
            self._seq = item.seq
            if self._json or not self._is_covered(item.event):
                self._print(item)
            if isinstance(item.event, events.RunJoined | events.Committed):
                self._run = item.event.run
            if isinstance(item.event, events.Committed):
                self._printed.add((item.event.run, item.event.round))

    def on_connection(self, connection: Connection) -> None:
        """Print the new state of the connection."""
        if isinstance(connection, Connected) and connection.greeting.stream != self._stream:
            self._stream, self._seq = connection.greeting.stream, 0
        line = connection_line(connection)
        if line is not None:
            self._note(line)

    def _is_covered(self, event: events.AnyEvent) -> bool:
        """Return whether a printed line of the history covers *event*."""
        if isinstance(event, events.EvaluationFinished):
            return self._from_history.get((self._run, event.round), False)
        return isinstance(event, _OF_ROUND) and (self._run, event.round) in self._from_history

    def _print(self, item: Item) -> None:
        line = item_json(item) if self._json else item_line(item)
        if line is not None:
            self._write(line)


def item_line(item: Item) -> str | None:
    """Return a line for *item*; None if it has none."""
    if isinstance(item, RoundRow):
        return _row_line(item)
    line = line_of(item.event, item.training_round)
    if line is None:
        return None
    return f"{time.strftime('%H:%M:%S', time.localtime(item.time))} {line[0]} {line[1]}"


def item_json(item: Item) -> str:
    """Return *item* as one line of JSON; a committed round of the history has "event": "history"."""
    if isinstance(item, RoundRow):
        fields = {"event": "history", "training_round": item.training_round, **msgspec.to_builtins(item)}
    else:
        about = {} if item.training_round is None else {"training_round": item.training_round}
        fields = {"seq": item.seq, "time": item.time, **about, **msgspec.to_builtins(item.event)}
    return msgspec.json.encode(fields).decode()


def connection_line(connection: Connection) -> str | None:
    """Return a line for the state of the connection; None if it has none."""
    match connection:
        case Connected(greeting=greeting):
            name = one_line(greeting.name, 64)
            federation, who = one_line(greeting.federation, 64), one_line(greeting.who, 80)
            return f"-- connected to {name} of {federation} as {who}"
        case Retrying():
            reason = one_line(connection.reason, 400)
            return f"-- no connection, trying again: {reason}" if connection.number == 1 else None
        case NodeEnded():
            return f"-- {one_line(connection.reason, 400)}"
        case _:
            assert_never(connection)


def _row_line(row: RoundRow) -> str | None:
    if row.kind != "train":
        return None
    result = "not evaluated"
    if row.metrics:
        result = means(row.metrics, row.primary)
        if not row.committed:
            result += f" on {row.examples} samples, reported by {len(row.scores)} members"
    seconds = f" in {row.seconds:.1f} s" if row.seconds else ""
    return (
        f"         round {row.training_round}: {result}; {len(row.updates)} of {len(row.members)} updates, "
        f"averaged by {one_line(row.aggregator, 64)}{seconds}"
    )
