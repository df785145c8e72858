"""`tests.bench.ballast_node` that does what a node without an events file does.

The file is there all the same, since it is how a bench learns where the node listens; it tells nothing else.
"""

from __future__ import annotations

import msgspec

from p2pfl import events
from p2pfl.runtime import node as runtime
from p2pfl.runtime.node import NodeConfig
from p2pfl.runtime.publish import EventFile, Sink
from tests.bench import ballast_node

PROGRAM = ("-m", "tests.bench.plain_node")
"""To be given to `tests.support.processes.Fleet.start`."""


def main() -> None:
    run_node, write = runtime.run_node, EventFile.write

    async def unrecorded(config: NodeConfig, sinks: tuple[Sink, ...], started: float) -> int:
        return await run_node(msgspec.structs.replace(config, recorded=False), sinks, started)

    def write_start(self: EventFile, published: events.Published) -> None:
        if isinstance(published.event, events.Started):
            write(self, published)

    runtime.run_node = unrecorded
    EventFile.write = write_start  # type: ignore[method-assign]
    ballast_node.main()


if __name__ == "__main__":
    main()
