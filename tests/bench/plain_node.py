"""`tests.bench.watched_node` that writes to its events file only where it listens, so that a bench learns that.

For the rest it does what a node without such a file does.
"""

from __future__ import annotations

from p2pfl import events
from p2pfl.runtime.publish import EventFile
from tests.bench import watched_node

PROGRAM = ("-m", "tests.bench.plain_node")
"""To be given to `tests.support.processes.Fleet.start`."""


def main() -> None:
    write = EventFile.write

    def write_start(self: EventFile, published: events.Published) -> None:
        if isinstance(published.event, events.Started):
            write(self, published)

    EventFile.write = write_start  # type: ignore[method-assign]
    watched_node.main()


if __name__ == "__main__":
    main()
