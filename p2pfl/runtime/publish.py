"""Events on their way to people: numbered, dated, and given to every sink in order."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from p2pfl.errors import UserError
from p2pfl.events import AnyEvent

logger = logging.getLogger(__name__)


class Published(msgspec.Struct, frozen=True):
    """An event with what the driver adds: its number in this process and the wall clock."""

    seq: int
    time: float
    """Seconds since the epoch, by this device's clock."""
    event: AnyEvent


Sink = Callable[[Published], None]
"""Called in the event loop; must return quickly."""


class Publisher:
    """Numbers and dates events and passes them to its sinks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sinks: list[Sink] = []
        self._seq = 0

    def add(self, sink: Sink) -> None:
        """Give every later event to *sink*."""
        self._sinks.append(sink)

    def publish(self, event: AnyEvent) -> None:
        """Give *event* to every sink."""
        self._seq += 1
        published = Published(self._seq, self._clock(), event)
        for sink in self._sinks:
            sink(published)


def as_dict(published: Published) -> dict[str, Any]:
    """Return one flat mapping: `seq`, `time`, `event` (its kind), then the event's fields."""
    fields: dict[str, Any] = msgspec.to_builtins(published.event)
    return {"seq": published.seq, "time": published.time, **fields}


class EventFile:
    """Writes every event as a line of JSON, flushed at once so that a reader can follow."""

    def __init__(self, path: str) -> None:
        """Open *path* for appending.

        Raises:
            UserError: it cannot be written.
        """
        self._path = path
        try:
            # It lives as long as the node, so no `with`.
            self._file: TextIO | None = open(path, "a", encoding="utf-8")  # noqa: PTH123, SIM115
        except OSError as error:
            raise UserError(
                f"The events file {path} cannot be written: {error.strerror}. Choose another --events."
            ) from error

    def write(self, published: Published) -> None:
        """Write one event; a full disk ends the file, not the node."""
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(as_dict(published)).decode() + "\n")
            self._file.flush()
        except OSError as error:
            logger.warning("the events file %s cannot be written any more: %s", self._path, error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take was told of before
                file.close()
