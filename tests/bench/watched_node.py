"""`tests.bench.ballast_node` that measures nothing of itself unless somebody watches.

A node that writes an events file measures all the time, and every node of a bench writes one. Here the file is
written all the same, and the node behaves as one without it.
"""

from __future__ import annotations

import msgspec

from p2pfl.runtime import node as runtime
from p2pfl.runtime.node import NodeConfig
from p2pfl.runtime.publish import Sink
from tests.bench import ballast_node

PROGRAM = ("-m", "tests.bench.watched_node")
"""To be given to `tests.support.processes.Fleet.start`."""


def main() -> None:
    run_node = runtime.run_node

    async def unrecorded(config: NodeConfig, sinks: tuple[Sink, ...], started: float) -> int:
        return await run_node(msgspec.structs.replace(config, recorded=False), sinks, started)

    runtime.run_node = unrecorded
    ballast_node.main()


if __name__ == "__main__":
    main()
