"""The program `tests.bench.watched_node` that writes only its `Started` event to its events file.

The bench needs this event for the node's address. Otherwise the node behaves as one without an events file.
"""

from __future__ import annotations

from p2pfl import events
from p2pfl.runtime.observing.publish import EventFile
from tests.bench import watched_node

PROGRAM = ("-m", "tests.bench.plain_node")
"""Argument of `tests.support.processes.Fleet.start`."""


def main() -> None:
    write = EventFile.write

    def write_start(self: EventFile, published: events.Published) -> None:
        if isinstance(published.event, events.Started):
            write(self, published)

    EventFile.write = write_start  # type: ignore[method-assign]
    watched_node.main()


if __name__ == "__main__":
    main()
